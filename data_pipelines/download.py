"""Downloads of published files: by https where the site has it, and checked by hash."""

import hashlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from data_pipelines.atomic import FullDiskError, replacing
from data_pipelines.errors import DataError
from data_pipelines.logs import log
from data_pipelines.progress import progress

PATIENCE = 10.0  # seconds without an answer of the server
_BLOCK = 2**18  # bytes


def download(urls: Sequence[str], file: Path, size: int, sha256: str) -> None:
    """Downloads a file from the first of its addresses that answers.

    A failed or interrupted download leaves no file.

    Args:
      urls: addresses, in order of preference.
      file: where it goes; its folder is made if needed.
      size: its bytes, for the display.
      sha256: its hash; it protects an address without https.

    Raises:
      OSError: no address answers within `PATIENCE` seconds each; the message has the reasons.
      FullDiskError: there is no room.
      DataError: the file is another one.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    faults = []
    for url in urls:
        note = "" if url.startswith("https:") else " (not encrypted, checked by its SHA-256)"
        log.info(f"downloading {url}{note}, {size / 1e6:.0f} MB")
        try:
            return _download(url, file, size, sha256)
        except (OSError, HTTPException) as error:
            if isinstance(error, FullDiskError):
                raise
            faults.append(f"{url.partition(':')[0]}: {getattr(error, 'reason', error)}")
    raise OSError("; ".join(faults))


def _download(url: str, file: Path, size: int, sha256: str) -> None:
    found, done = hashlib.sha256(), 0
    with urlopen(url, timeout=PATIENCE) as answer, replacing(file) as output:
        with progress(f"downloading {file.name}, bytes", size) as report:
            while block := answer.read(_BLOCK):
                output.write(block)
                found.update(block)
                done += len(block)
                report(done)
        if found.hexdigest() != sha256:
            raise DataError(
                f"expected the {size} bytes with sha256 {sha256}, got {done} with "
                f"{found.hexdigest()}: another file, or changed on its way",
                url,
            )
