"""The granularities of a class description: names and order of axis `G`."""

GRANULARITIES = ("global", "head", "hands", "torso", "legs", "start", "middle", "end")

# Named selections of granularities, by their indices on axis `G`.
GRANULARITY_SETS = {
    "all": tuple(range(len(GRANULARITIES))),
    "global": (0,),
    "parts": (0, 1, 2, 3, 4),
    "phases": (0, 5, 6, 7),
}
