"""Draws docs/images/predictions.webp, the picture at the top of the README, from real recordings.

  python scripts/draw_predictions.py --archive=machete.npz --model=without_machete.safetensors

--archive is the Machete corpus (Kinect v2, MIT licence) as a clip archive. --model is any model of
`dynapurls_jax.load_pretrained`. The README's was trained without Machete and without the other
corpora that may be shown: `scripts/train_universal.py` on a folder that lacks machete, precog,
cmu_part and deepmimic. At every drawn frame the bars are the model's answer to the clip so far,
without adaptation. The first clip of each class is drawn; how many of all clips of these classes
the model recognises is printed. 30 seconds on one core.
"""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import dynapurls_jax
from data_pipelines.clip_files import Clip, CommonClips
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.commands import parser_of

if TYPE_CHECKING:
    from dynapurls_jax.serving.recogniser import ActionStream

SHOWN = {  # class of the corpus to the sentence that describes it to the model
    "fly eagle": "flap your arms like a bird",
    "golf swing": "swing a golf club",
    "kick right": "kick with the right leg",
    "duck": "duck under something",
    "uppercut right": "uppercut with the right hand",
    "push": "push with both hands",
}
OTHERS = ("wave with the left hand", "sit down")  # sentences that describe none of them
SIZE, SCALE = (1080, 372), 2  # pixels; drawn larger and reduced
FLOOR, CENTRE, METRE = 326, 190, 164  # of the skeleton, in pixels
LEFT, TOP, ROW, BAR = 690, 62, 35, 290  # of the bars
INK, MUTED, TRACK, LINE = "#1f2933", "#66758a", "#eef1f5", "#d9dfe7"
ACCENT, PLAIN = "#e8590c", "#9fb3c8"
SIDES = {"left": "#1c7ed6", "right": "#7048e8", "": INK}
FIRST, STEP, MILLISECONDS, REST = 8, 2, 66, 12  # frames of a clip; still frames at its end
TURN = np.radians(25)
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of all texts."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(FONTS / name), size * SCALE)


def scaled(*numbers: float) -> list[float]:
    """Places in the larger picture."""
    return [number * SCALE for number in numbers]


def projected(joints: np.ndarray) -> np.ndarray:
    """Pixels `[T, V, 2]` of joints `[T, V, 3]`, seen from the front and a little from the side."""
    x = joints[..., 0] * np.cos(TURN) - joints[..., 1] * np.sin(TURN)
    middle = np.median(x[:, KINECT_V1.hip_center])
    return np.stack([CENTRE - METRE * (x - middle), FLOOR - METRE * joints[..., 2]], axis=-1)


def draw_skeleton(draw: ImageDraw.ImageDraw, places: np.ndarray) -> None:
    """The last of some frames `[T, V, 2]`, and the way of the hands before it."""
    names = KINECT_V1.joints
    for side in ("left", "right"):
        path = places[-14:, names.index(f"{side}_hand")]
        for age, (start, end) in enumerate(pairwise(path)):
            fade = Image.blend(
                Image.new("RGB", (1, 1), "white"),
                Image.new("RGB", (1, 1), SIDES[side]),
                0.08 + 0.3 * (age + 1) / len(path),
            ).getpixel((0, 0))
            draw.line(scaled(*start, *end), fill=fade, width=4 * SCALE, joint="curve")
    for joint, parent in KINECT_V1.bones:
        side = next((s for s in ("left", "right") if names[joint].startswith(s)), "")
        ends = scaled(*places[-1, joint], *places[-1, parent])
        draw.line(ends, fill=SIDES[side], width=6 * SCALE, joint="curve")
        for x, y in (ends[:2], ends[2:]):
            draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=SIDES[side])
    x, y = scaled(*places[-1, names.index("head")])
    draw.ellipse([x - 26, y - 26, x + 26, y + 26], fill=INK)


def draw_bars(draw: ImageDraw.ImageDraw, shares: dict[str, float]) -> None:
    """A bar for each sentence; the most probable one is marked."""
    best = max(shares, key=lambda action: shares[action])
    for row, (action, share) in enumerate(shares.items()):
        y, chosen = TOP + row * ROW, action == best
        draw.text(
            scaled(LEFT - 14, y + 11),
            action,
            fill=INK if chosen else MUTED,
            font=font(15, chosen),
            anchor="rm",
        )
        box = [LEFT, y, LEFT + BAR, y + 22]
        draw.rounded_rectangle(scaled(*box), 5 * SCALE, fill=TRACK)
        box[2] = LEFT + max(BAR * share, 5)
        draw.rounded_rectangle(scaled(*box), 5 * SCALE, fill=ACCENT if chosen else PLAIN)
        draw.text(
            scaled(LEFT + BAR + 12, y + 11),
            f"{share:.0%}",
            fill=INK if chosen else MUTED,
            font=font(14, chosen),
            anchor="lm",
        )


def picture(clip: Clip, places: np.ndarray, shares: dict[str, float]) -> Image.Image:
    """One frame of the picture."""
    large = Image.new("RGB", (SIZE[0] * SCALE, SIZE[1] * SCALE), "white")
    draw = ImageDraw.Draw(large)
    draw.line(scaled(30, FLOOR + 3, 350, FLOOR + 3), fill=LINE, width=2 * SCALE)
    draw_skeleton(draw, places)
    recorded = f"recorded as “{clip.label}”, frame {len(places)}"
    draw.text(scaled(CENTRE, FLOOR + 28), recorded, fill=MUTED, font=font(13), anchor="mm")
    title = "Which sentence does the clip show?"
    draw.text(scaled(LEFT - 14, 30), title, fill=INK, font=font(16, True), anchor="rm")
    note = "probability, clip so far"
    draw.text(scaled(LEFT, 30), note, fill=MUTED, font=font(13), anchor="lm")
    draw_bars(draw, shares)
    return large.resize(SIZE, Image.Resampling.LANCZOS)


def shares_of(stream: "ActionStream", clip: Clip, frames: int) -> dict[str, float]:
    """The probability of each action after some frames of a clip."""
    answer = stream.look(clip.joints[0, :frames], "kinect_v1", up="z", metres=True, fps=clip.fps)
    found = dict(zip(answer.labels, answer.probabilities.tolist(), strict=True))
    return {action: found[action] for action in stream.actions}


def frames_of(stream: "ActionStream", clip: Clip) -> list[Image.Image]:
    """All frames of a clip."""
    places = projected(clip.joints[0])
    counts = [*range(FIRST, len(places), STEP), len(places)]
    frames = [picture(clip, places[:n], shares_of(stream, clip, n)) for n in counts]
    return frames + [frames[-1]] * REST


def main() -> None:
    """Draws the picture, and prints how many clips are recognised."""
    parser = parser_of(__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, default="docs/images/predictions.webp")
    options = parser.parse_args()
    archive = CommonClips(options.archive)
    clips = [clip for clip in map(archive.clip, range(len(archive))) if clip.label in SHOWN]
    model = dynapurls_jax.load_pretrained(options.model)
    stream = model.stream([*SHOWN.values(), *OTHERS], "static")
    answers = list(stream.recognise_all(clips, learn=False))
    right = sum(a.label == SHOWN[c.label] for c, a in zip(clips, answers, strict=True))
    print(f"{right} of {len(clips)} clips of these classes recognised")
    first = [next(clip for clip in clips if clip.label == label) for label in SHOWN]
    frames = [frame for clip in first for frame in frames_of(stream, clip)]
    frames[0].save(
        options.out,
        save_all=True,
        append_images=frames[1:],
        duration=MILLISECONDS,
        loop=0,
        quality=70,
        method=3,
    )
    print(f"written: {options.out}, {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
