"""A small task of stage 3: DeViSE on noisy tokens."""

from dataclasses import replace

import numpy as np

from dynapurls_jax.training.method_task import Samples
from dynapurls_jax.zero_shot.devise import DeviseSettings, make
from tests.helpers.fitting import trained_together
from tests.helpers.parallel_case import method_task

CLASSES = 9


def small_task(classes: int = CLASSES, samples: int = 60, **fit):
    """DeViSE on noisy tokens, with different numbers of samples for the classes."""
    rng = np.random.default_rng(3)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=samples - classes)])
    text = rng.normal(size=(classes, 8, 6)).astype(np.float32)
    tokens = rng.normal(size=(samples, 2, 5)) + labels[:, None, None] % 3
    task = method_task()
    settings = {"epochs": 6, "patience": 6, "batch_size": 8, "learning_rate": 0.05} | fit
    return replace(
        task,
        method=make(DeviseSettings(), task.shapes),
        settings=replace(task.settings, **settings),
        train=Samples(tokens.astype(np.float16), labels),
        val=Samples(tokens[:9].astype(np.float16), labels[:9]),
        text=text / np.linalg.norm(text, axis=-1, keepdims=True),
        ids=[f"c{n}" for n in range(samples)],
    )


def trained(task, folder):
    return trained_together([task], [folder])[0]
