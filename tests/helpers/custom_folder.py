"""A folder of custom clips with its dataset.yaml."""

import yaml

from tests.helpers.skeleton_text import body

CLASSES = ["wave", "kick ball", "bow", "jump up", "clap", "turn around"]


def text_clip(seed: int) -> str:
    """25 joints in millimetres, one line for each frame."""
    frames = 1000 * body(seed)
    return "\n".join(" ".join(f"{value:.2f}" for value in frame.ravel()) for frame in frames)


def write_spec(folder, **spec):
    """Writes dataset.yaml without the keys that are None; returns the folder."""
    spec = {key: value for key, value in spec.items() if value is not None}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
    return folder


def write_folder(folder, **changes):
    """Writes text files of 6 classes, 4 subjects and 2 takes, and dataset.yaml with `changes`."""
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(CLASSES):
        for subject in range(1, 5):
            for take in range(2):
                file = folder / f"{name.replace(' ', '_')}" / f"s{subject:02d}_t{take}.txt"
                file.parent.mkdir(exist_ok=True)
                file.write_text(text_clip(100 * label + 10 * subject + take))
    spec = {
        "name": "gym",
        "format": "text",
        "files": "{class}/s{subject}_t{take}.txt",
        "skeleton": "kinect_v2",
        "metres": 0.001,
        "classes": CLASSES,
        "train_subjects": [1, 2, 3],
        "splits": {"4_2": ["clap", "bow"]},
    }
    return write_spec(folder, **(spec | changes))
