"""Small corpora for tests."""

import numpy as np

from data_pipelines.corpus import TEST, TRAIN, Corpus, corpus_of_clips
from data_pipelines.protocols import published_splits
from data_pipelines.skeletons import KINECT_V1

METRES = 0.16  # scale of the random joints, so that distances are like those of a body


def tiny_corpus(name="utd_mhad", classes=8, subjects=4, takes=2, seed=0) -> Corpus:
    """A small corpus of smooth random clips whose classes differ in frequency."""
    rng = np.random.default_rng(seed)
    clips, labels, subject_of = [], [], []
    for label in range(classes):
        for subject in range(1, subjects + 1):
            for _ in range(takes):
                time = np.linspace(0, 1, int(rng.integers(12, 20)))[:, None, None]
                body = rng.normal(size=(1, 20, 3))
                wave = np.sin(2 * np.pi * (label + 1) * time) * rng.normal(1, 0.1, (1, 20, 3))
                clips.append(METRES * (body + 0.3 * wave)[None].astype(np.float32))
                labels.append(label)
                subject_of.append(subject)
    ids = np.array(subject_of, np.int32)
    return corpus_of_clips(
        clips,
        name=name,
        skeleton=KINECT_V1,
        class_names=tuple(f"class {i}" for i in range(classes)),
        labels=np.array(labels, np.int32),
        subjects=ids,
        sides={"xsub": np.where(ids % 2 == 1, TRAIN, TEST)},
        splits=published_splits(name),
        setups=np.zeros(len(clips), np.int32),
        views=np.zeros(len(clips), np.int32),
        clip_ids=tuple(f"clip{i:03d}" for i in range(len(clips))),
    )
