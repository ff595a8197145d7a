"""Shared fixtures; the data of the repository's sibling folder is used where it exists."""

import os
import shutil
import tempfile
import tracemalloc
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest

from data_pipelines.corpus import TEST, TRAIN, Corpus, corpus_of_clips
from data_pipelines.demo.generate import generate_demo
from data_pipelines.protocols import published_splits
from data_pipelines.skeletons import KINECT_V1

hypothesis.settings.register_profile("suite", deadline=None)  # machines differ in speed
hypothesis.settings.load_profile("suite")

ROOT = Path(__file__).parents[1]
SHARED_DATA = Path(os.environ.get("DYNAPURLS_DATA") or ROOT.parent / "shared" / "data")


def pytest_configure(config):
    """Compiles every program once for all tests, workers and subprocesses of a session."""
    own = "JAX_COMPILATION_CACHE_DIR" not in os.environ
    if own:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="xla-")
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    if own and not hasattr(config, "workerinput"):  # the controller outlives its workers
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(config, items):
    """Skips tests of real data where there is none; with CI=true that is an error instead."""
    if SHARED_DATA.is_dir():
        return
    reason = f"no real data: {SHARED_DATA} does not exist (set DYNAPURLS_DATA)"
    for item in items:
        if item.get_closest_marker("shared_data"):
            if os.environ.get("CI"):
                raise pytest.UsageError(f"CI must run {item.nodeid}, but there is {reason}")
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data."""
    return SHARED_DATA


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keeps prepared datasets of tests apart from the user's."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DYNAPURLS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def forget_programs():
    """Unloads compiled programs before there are more than a process may map (65530 on Linux)."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


@pytest.fixture
def flat():
    """Memory must not grow by more than a few megabytes."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


@pytest.fixture(scope="session")
def demo() -> Corpus:
    """The demo corpus."""
    return generate_demo(0)


def tiny_corpus(name="utd_mhad", classes=8, subjects=4, takes=2, seed=0) -> Corpus:
    """A small corpus of smooth random clips whose classes differ in frequency."""
    rng = np.random.default_rng(seed)
    clips, labels, who = [], [], []
    for label in range(classes):
        for subject in range(1, subjects + 1):
            for _ in range(takes):
                time = np.linspace(0, 1, int(rng.integers(12, 20)))[:, None, None]
                body = rng.normal(size=(1, 20, 3))
                wave = np.sin(2 * np.pi * (label + 1) * time) * rng.normal(1, 0.1, (1, 20, 3))
                clips.append((body + 0.3 * wave)[None].astype(np.float32))
                labels.append(label)
                who.append(subject)
    subjects = np.array(who, np.int32)
    return corpus_of_clips(
        clips,
        name=name,
        skeleton=KINECT_V1,
        class_names=tuple(f"class {i}" for i in range(classes)),
        labels=np.array(labels, np.int32),
        subjects=subjects,
        sides={"xsub": np.where(subjects % 2 == 1, TRAIN, TEST)},
        splits=published_splits(name),
        setups=np.zeros(len(clips), np.int32),
        views=np.zeros(len(clips), np.int32),
        clip_ids=tuple(f"clip{i:03d}" for i in range(len(clips))),
    )
