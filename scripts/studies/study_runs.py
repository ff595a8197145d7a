"""The runs of the studies: splits and seeds of each dataset."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RANDOM = ("53_5", "46_12")  # sizes of the random splits of Kinder-Gator
SPLITS = {
    "utd_mhad": ("22_5", "18_9", "14_13"),
    "nw_ucla": ("8_2", "5_5"),
    "kinder_gator": tuple(f"random-{size}-{k}" for size in RANDOM for k in range(2)),
}
DATASETS = tuple(SPLITS)
PSEUDO = {  # four of each split: pseudo split number k, seed k
    dataset: [(f"pseudo-{split}-{k}", k) for split in splits for k in range(4)]
    for dataset, splits in SPLITS.items()
}


def real_runs(dataset: str, seeds: int) -> list[tuple[str, int]]:
    """Splits and seeds with unseen classes: some seeds of each split, or random splits."""
    if dataset == "kinder_gator":
        return [(f"random-{size}-{k}", 0) for size in RANDOM for k in range(seeds)]
    return [(split, k) for split in SPLITS[dataset] for k in range(seeds)]
