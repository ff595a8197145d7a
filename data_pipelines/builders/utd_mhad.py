"""UTD-MHAD: 27 actions, 8 subjects, 4 trials, Kinect v1."""

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from data_pipelines.builders.base import Columns
from data_pipelines.builders.one_archive import OneArchive
from data_pipelines.errors import DataError
from data_pipelines.formats.mat import read_mat
from data_pipelines.formats.raw import RawClip, checked, match_name
from data_pipelines.logs import log
from data_pipelines.skeletons import KINECT_V1
from data_pipelines.sources import FileSource, Source

ACTIONS = (
    "swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shot",
    "draw an X", "draw a circle clockwise", "draw a circle counterclockwise", "draw a triangle",
    "bowling", "boxing", "baseball swing", "tennis swing", "arm curl", "tennis serve", "push",
    "knock on a door", "catch", "pick up and throw", "jog in place", "walk in place",
    "sit to stand", "stand to sit", "forward lunge", "squat",
)  # fmt: skip

_PATIENCE = 10.0  # seconds for the first answer of the server
# UTD-MHAD orders the trunk joints from head to hip, Kinect v1 from hip to head.
_ORDER = [3, 2, 1, 0, *range(4, 20)]


def read_utd_mhad(file: str, content: bytes) -> RawClip:
    """Reads `a{class}_s{subject}_t{trial}_skeleton.mat` with `d_skel` `[20, 3, T]`.

    Camera frame: metres, y up, z away from the camera; the right side of a subject who faces the
    camera is at +x. Left and right are the subject's.

    Raises:
      DataError: the name, the file format or the array is not as published.
    """
    name = match_name(r"a(\d+)_s(\d+)_t(\d+)_skeleton\.mat", file, "a1_s1_t1_skeleton.mat")
    action, subject, _ = map(int, name.groups())
    if not 1 <= action <= len(ACTIONS):
        raise DataError(f"expected an action from 1 to {len(ACTIONS)}, got {action}", file)
    try:
        joints = read_mat(content, "d_skel", file)
    except KeyError:
        raise DataError("expected a variable d_skel [20, 3, T], found none", file) from None
    if joints.ndim != 3 or joints.shape[:2] != (20, 3):
        raise DataError(f"expected d_skel [20, 3, T], got {list(joints.shape)}", file)
    joints = checked(joints.transpose(2, 0, 1)[None, :, _ORDER], file, KINECT_V1.joints)
    clip_id = name.string.removesuffix("_skeleton.mat")
    return RawClip(clip_id, joints, label=action - 1, subject=subject)


def check_reachable(url: str) -> None:
    """Fails at once without a network, where TFDS tries for minutes without a word.

    Raises:
      OSError: the server does not answer; behind a proxy nothing is checked.
    """
    parts = urlsplit(url)
    if parts.scheme in getproxies():
        return
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    socket.create_connection((parts.hostname, port), timeout=_PATIENCE).close()


class UtdMhad(OneArchive):
    """UTD-MHAD: 27 classes, 8 subjects, 861 clips."""

    SKELETON = KINECT_V1
    CLASSES = ACTIONS
    TOTAL = 861
    ARCHIVE = "Skeleton.zip"
    SUFFIX = ".mat"
    URL = "http://www.utdallas.edu/~kehtar/UTD-MAD/Skeleton.zip"
    # Of the file at URL, which has no https and could be changed on the way. An archive in
    # manual_dir may be another.
    SHA256 = "ed2209fd0fec19461320235e5e28b44ee392edf125e7c8e4338832ef9a2892cf"
    BYTES = 14_723_551
    HOMEPAGE = "https://www.utdallas.edu/~kehtar/UTD-MHAD.html"
    DESCRIPTION = "Skeleton modality of UTD-MHAD: 27 actions, 8 subjects, 4 trials, Kinect v1."
    CITATION = (
        "@inproceedings{chen2015utdmhad, author={Chen, Chen and Jafari, Roozbeh and Kehtarnavaz, "
        "Nasser}, title={UTD-MHAD}, booktitle={ICIP}, year={2015}}"
    )
    INSTRUCTIONS = (
        "UTD-MHAD downloads itself. Without a network, fetch the skeleton data (14 MB) of "
        f"{HOMEPAGE} from {URL} and put Skeleton.zip into <manual_dir>."
    )

    reader = staticmethod(read_utd_mhad)

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Odd subjects train."""
        return {"xsub": columns["subject"] % 2 == 1}

    def download(self, fetch: Callable[[str], Any], manual_dir: Path) -> FileSource:
        """The archive at `URL`, if it is the published one.

        Raises:
          FileNotFoundError: it cannot be downloaded; without a network, within seconds.
          DataError: it is another file.
        """
        log.info(f"{self.name}: downloading {self.URL}, {self.BYTES / 1e6:.0f} MB")
        try:
            check_reachable(self.URL)
            file = Path(fetch(self.URL))
        except Exception as error:  # TFDS passes on what its HTTP libraries raise
            reason = f"{self.name}: {self.URL} could not be downloaded ({error}).\n"
            raise FileNotFoundError(reason + self.missing(manual_dir)) from error
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != self.SHA256:
            raise DataError(
                f"expected the {self.BYTES} bytes with sha256 {self.SHA256}, got "
                f"{file.stat().st_size} with {found}: another file, or changed on its way. If you "
                f"have one that you trust, put it into {manual_dir} as {self.ARCHIVE}",
                self.URL,
            )
        return self.source_at(file)
