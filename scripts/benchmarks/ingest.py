"""The speed of reading NTU RGB+D: parsing alone, and the whole path from zip to array_record.

  python scripts/benchmarks/ingest.py --clips=../shared/data/ntu_clips
  python scripts/benchmarks/ingest.py --clips=... --copies=100     a longer run of the whole path

Parsing is measured on one core, on files in memory, against a plain line-by-line parser in the
same run. The whole path reads a zip of renamed copies through the NTU RGB+D 60 builder with all
cores; its share on one core and its serial share give the projection.
"""

from pathlib import Path

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--clips", type=Path, required=True, help="folder of .skeleton files")
PARSER.add_argument("--repeats", type=int, default=7, help="passes, of which the best counts")
PARSER.add_argument("--copies", type=int, default=40, help="of each clip, for the whole path")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import os
import resource
import tempfile
import time
import zipfile
from collections.abc import Callable

import numpy as np
from timing import line, table

from data_pipelines.cleaning import clean
from data_pipelines.datasets import load_corpus
from data_pipelines.formats.ntu import parse_lines, parse_skeleton, read_ntu
from data_pipelines.ingest import num_cores
from data_pipelines.settings import DataSettings
from data_pipelines.sources import Archive, FileSource

FILES = {"NTU RGB+D 60": 56_880, "NTU RGB+D 120": 114_480}
CORES = (2, 16, 64)


def main() -> None:
    """Measures and prints."""
    options = PARSER.parse_args()
    files = {str(file): file.read_bytes() for file in sorted(options.clips.glob("*.skeleton"))}
    if not files:
        raise SystemExit(f"{options.clips}: expected .skeleton files, found none")
    frames = [parse_skeleton(content, name).num_frames for name, content in files.items()]
    size = np.mean([len(content) for content in files.values()])
    print(
        f"{len(files)} real clips, {size / 1e3:.0f} kB and {np.mean(frames):.0f} frames on average"
    )
    parsing(files, options.repeats)
    whole_path(files, options.copies)


def plain(content: bytes) -> list:
    """The plainest parser: a line, a split, a float for each field; no checks."""
    lines = iter(content.decode().splitlines())
    frames = []
    for _ in range(int(next(lines))):
        bodies = []
        for _ in range(int(next(lines))):
            info = next(lines).split()
            joints = np.zeros((int(next(lines)), 3), np.float32)
            for joint in range(len(joints)):
                joints[joint] = [float(field) for field in next(lines).split()][:3]
            bodies.append((info[0], joints))
        frames.append(bodies)
    return frames


def parsing(files: dict[str, bytes], repeats: int) -> None:
    """Files per second of one core, best of several passes, the parsers taking turns."""
    parsers: dict[str, Callable] = {
        "plain line by line, no checks": lambda name, content: plain(content),
        "line by line, checked": lambda name, content: parse_lines(content, name),
        "parse_skeleton": lambda name, content: parse_skeleton(content, name),
        "parse_skeleton + persons (read_ntu)": read_ntu,
    }
    seconds = dict.fromkeys(parsers, np.inf)
    for _ in range(repeats):
        for name, parse in parsers.items():
            start = time.perf_counter()
            for file, content in files.items():
                parse(file, content)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    base = seconds["plain line by line, no checks"]
    table("parser", "files/s on one core", "against plain")
    for name, best in seconds.items():
        line(name, f"{len(files) / best:.0f}", f"{base / best:.1f}x")


def whole_path(files: dict[str, bytes], copies: int) -> None:
    """Zip to array_record with all cores, and a projection for other numbers of cores."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["DYNAPURLS_CACHE"] = str(folder / "cache")
        archive = folder / "nturgbd_skeletons_s001_to_s017.zip"
        count = write_archive(archive, files, copies)
        start = time.perf_counter()
        corpus = load_corpus(DataSettings("ntu60", str(folder)))
        total = time.perf_counter() - start
        one_core = time_of_one_core(archive, min(count, 400))
    cores = num_cores()
    serial = max(total / count - one_core / cores, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"\n{count} files, zip to array_record on {cores} cores: {total:.1f} s, "
        f"{count / total:.0f} files/s ({len(corpus)} clips kept)\n"
        f"on one core {1e3 * one_core:.2f} ms a file are parallel (unzip, parse, clean), "
        f"{1e3 * serial:.2f} ms are serial (write, hash)\n"
        f"peak memory {peak:.2f} GB in the writing process\n"
    )
    table("dataset", *(f"{n} cores" for n in CORES))
    for name, number in FILES.items():
        minutes = [number * (one_core / n + serial) / 60 for n in CORES]
        line(f"{name} (projected)", *(f"{m:.1f} min" for m in minutes))


def write_archive(archive: Path, files: dict[str, bytes], copies: int) -> int:
    """Makes a zip of renamed copies; returns the number of its files."""
    count = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for copy in range(copies):
            for name, content in files.items():
                stem = Path(name).stem
                other = f"S{1 + copy % 17:03d}C{1 + copy // 17 % 3:03d}P{1 + copy // 51:03d}"
                target.writestr(
                    f"nturgb+d_skeletons/{other}R{count % 999:03d}{stem[-4:]}.skeleton", content
                )
                count += 1
    return count


def time_of_one_core(archive: Path, count: int) -> float:
    """Seconds per file of the workers' task, in this process."""
    source = FileSource(Archive((archive,), ".skeleton"), read_ntu)
    items = list(source.items())[:count]
    start = time.perf_counter()
    for item in items:
        for raw in source.read(item):
            clean(raw)
    return (time.perf_counter() - start) / len(items)


if __name__ == "__main__":
    main()
