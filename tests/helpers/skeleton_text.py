"""Writes the raw text format of Kinect v2 datasets, for test files."""

import numpy as np

JOINTS = 25


def skeleton_lines(bodies: list[list[tuple[int, np.ndarray]]]) -> list[str]:
    """NTU's `.skeleton` text, line by line.

    Args:
      bodies: for each frame a list of `(tracking id, joints [25, 3])`.
    """
    lines = [str(len(bodies))]
    for frame in bodies:
        lines.append(str(len(frame)))
        for track, joints in frame:
            lines += [f"{track} 0 1 1 1 1 0 0.02764709 0.05745083 2", str(JOINTS)]
            for x, y, z in joints:
                place = " ".join(f"{float(value):.7g}" for value in (x, y, z))
                lines.append(f"{place} 277.419 191.8218 1036.233 519.1677 -0.2 0.05 0.9 -0.1 2")
    return lines


def body(seed: int = 0, place: float = 0.0, pace: float = 1.0) -> np.ndarray:
    """A standing and moving person, `[30, 25, 3]` float32, metres."""
    rng = np.random.default_rng(seed)
    height = np.linspace(-0.8, 0.8, JOINTS)
    rest = np.stack([rng.normal(place, 0.1, JOINTS), height, rng.normal(3, 0.1, JOINTS)], axis=-1)
    time = np.linspace(0, 2 * np.pi, 30)[:, None, None]
    return (rest + 0.1 * pace * np.sin(time + rng.normal(size=(JOINTS, 3)))).astype(np.float32)


def one_person(seed: int = 0, frames: int = 30) -> list[str]:
    """The lines of a file with one person."""
    return skeleton_lines([[(72057594037931101, joints)] for joints in body(seed)[:frames]])


def as_bytes(lines: list[str]) -> bytes:
    """The text with CRLF line ends, as in the owners' files."""
    return ("\r\n".join(lines) + "\r\n").encode()
