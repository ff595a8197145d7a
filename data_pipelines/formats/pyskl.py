"""PYSKL annotation files: one pickle of `{"split": {name: ids}, "annotations": [...]}`.

An annotation has `frame_dir` (its id), `label`, `total_frames` and `keypoint` `[M, T, V, C]`; only
3D keypoints (`C = 3`, metres) are read. The splits are named `<protocol>_train` and
`<protocol>_val` (or `_test`). All clips are loaded into memory, since a pickle cannot be read in
parts.
"""

import operator
import pickle
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from data_pipelines.atomic import write_bytes
from data_pipelines.corpus import NEITHER, PREDEFINED, TEST, TRAIN, Corpus
from data_pipelines.errors import DataError
from data_pipelines.formats.ntu import named_clip
from data_pipelines.formats.raw import RawClip, checked, checked_label
from data_pipelines.progress import counted
from data_pipelines.sources import ArraySource
from data_pipelines.untrusted import load_pickle


def read_record(file: Path) -> dict:
    """The content of a file; the annotations are not checked.

    Raises:
      DataError: it is not a pickle of plain data, or has no list of annotations.
    """
    record = load_pickle(file)
    if not isinstance(record, dict) or not isinstance(record.get("annotations"), list):
        raise DataError("expected a dict with a list of annotations", file)
    return record


class PysklSource(ArraySource):
    """The annotations of one PYSKL file."""

    @cached_property
    def _record(self) -> dict:
        return read_record(self.path)

    def items(self) -> dict[str, str]:
        return dict.fromkeys(map(str, range(len(self._record["annotations"]))), self.stamp())

    def read(self, item: str) -> list[RawClip]:
        annotation = self._record["annotations"][int(item)]
        where = f"{self.path}, annotation {item}"
        try:
            name, keypoint = str(annotation["frame_dir"]), annotation["keypoint"]
            label = operator.index(annotation["label"])
        except (KeyError, TypeError) as error:
            raise DataError(
                f"expected frame_dir, label and keypoint ({type(error).__name__}: {error})", where
            ) from error
        joints = checked(keypoint, where, self.skeleton.joints)
        label = checked_label(label, self.num_classes, where)
        return [named_clip(name, joints, label)]

    def sides(self, clip_ids: list[str]) -> dict[str, np.ndarray]:
        """The protocols of the file: its pairs of splits `<protocol>_train` and `_val`."""
        splits = self._record.get("split")
        if not isinstance(splits, dict):
            raise DataError(f"expected a dict of splits, got {type(splits).__name__}", self.path)
        sides = {}
        for name in splits:
            found = re.fullmatch(r"(?:(.+)_)?train", str(name))
            others = [name[:-5] + end for end in ("val", "test") if name[:-5] + end in splits]
            if found and others:
                side = dict.fromkeys(splits[name], TRAIN)
                both = side.keys() & set(splits[others[0]])
                if both:
                    raise DataError(f"{min(both)} is in {name} and in {others[0]}", self.path)
                side |= dict.fromkeys(splits[others[0]], TEST)
                codes = [side.get(clip, NEITHER) for clip in clip_ids]
                sides[found[1] or PREDEFINED] = np.array(codes, np.int8)
        if not sides:
            raise DataError(
                f"expected splits <protocol>_train and _val (or _test), got {sorted(splits)}",
                self.path,
            )
        return sides


def write_pyskl(corpus: Corpus, file: Path) -> None:
    """Writes a corpus as a PYSKL file; protocols become splits."""
    annotations = []
    for number in counted("writing clips", range(len(corpus))):
        clip = np.asarray(corpus.clips[number])
        annotation = {"frame_dir": corpus.clip_ids[number], "label": int(corpus.labels[number])}
        annotations.append(annotation | {"total_frames": clip.shape[1], "keypoint": clip})
    ids = np.array(corpus.clip_ids)
    split = {}
    for protocol, side in corpus.sides.items():
        split[f"{protocol}_train"] = ids[side == TRAIN].tolist()
        split[f"{protocol}_val"] = ids[side == TEST].tolist()
    content = pickle.dumps({"split": split, "annotations": annotations}, protocol=3)
    # The old module name works with numpy 1 and 2.
    content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    write_bytes(file, content)
