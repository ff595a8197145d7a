"""Shared fixtures; the data of the repository's sibling folder is used where it exists."""

import itertools
import os
import secrets
import shutil
import tracemalloc
from pathlib import Path

import filelock
import hypothesis
import jax
import pytest

from data_pipelines.corpus import Corpus
from data_pipelines.demo.generate import generate_demo

# Machines differ in speed: no deadline. The default examples are the same in every run.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=200, print_blob=True)
hypothesis.settings.load_profile("quick")

SEED = int(os.environ.setdefault("DYNAPURLS_TEST_SEED", str(secrets.randbelow(2**32))))
FINISHED = itertools.count(1)  # tests of this process
ROOT = Path(__file__).parents[1]
SHARED_DATA = Path(os.environ.get("DYNAPURLS_DATA") or ROOT.parent / "shared" / "data")


# Programs run once on small arrays: half of the time of a test would go into optimising them.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
)


def pytest_configure(config):
    """Keeps compiled programs for all tests, workers, subprocesses and later sessions."""
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".xla-cache"))
    options = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.3,
    }
    for name, value in options.items():
        os.environ.setdefault(name.upper(), str(value))
        jax.config.update(name, value if name != "jax_compilation_cache_dir" else folder)


def pytest_report_header() -> str:
    """The seed of what differs from run to run on purpose."""
    return f"random moments: DYNAPURLS_TEST_SEED={SEED}"


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
    """Unloads compiled programs before there are more than a process may map (65530 on Linux).

    Reading 20 000 maps takes 28 ms, so it is done after every tenth test.
    """
    yield
    maps = Path("/proc/self/maps")
    if next(FINISHED) % 10 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > 45_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def shared_workdir(tmp_path_factory) -> Path:
    """The small trained workdir of `tests.helpers.trained`; built once for all workers."""
    from tests.helpers.trained import build_workdir

    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    workdir, finished = base / "shared-workdir", base / "shared-workdir.finished"
    with filelock.FileLock(base / "shared-workdir.lock"):
        if not finished.exists():
            build_workdir(workdir)
            finished.touch()
    return workdir


@pytest.fixture
def trained_workdir(shared_workdir, tmp_path) -> Path:
    """A copy of the small trained workdir, for a test that changes it."""
    return Path(shutil.copytree(shared_workdir, tmp_path / "workdir"))


@pytest.fixture(scope="session")
def trained(shared_workdir):
    """The small trained workdir, not to be changed, and its run."""
    from tests.helpers.trained import load_small

    return shared_workdir, load_small(shared_workdir)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    from tests.helpers.browser import launched

    with launched() as found:
        yield found


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
