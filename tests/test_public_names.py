"""What the API reference lists can be imported; `.ci/run` does the same with the wheel."""

import re
import subprocess
import sys
from importlib import resources
from pkgutil import resolve_name

import pytest

import data_pipelines
import dynapurls_jax
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
LISTED = [name for page in PAGES for name in re.findall(r"(?m)^::: (\S+)$", page.read_text())]
PACKAGES = (dynapurls_jax, data_pipelines)


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_name_can_be_imported(name):
    assert resolve_name(name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_names_of_a_package_are_in_the_reference(package):
    assert set(package.__all__) <= set(dir(package))
    assert {f"{package.__name__}.{name}" for name in package.__all__} <= set(LISTED)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_types_of_a_package_are_declared(package):
    assert (resources.files(package) / "py.typed").is_file()


def test_every_registry_is_in_the_reference():
    registries = {
        f"dynapurls_jax.{file.parent.name}.registry.{name}"
        for file in (ROOT / "dynapurls_jax").glob("*/registry.py")
        for name in re.findall(r"(?m)^([A-Z_]+) = Registry\(", file.read_text())
    }
    assert registries
    assert registries <= set(LISTED)


@pytest.mark.slow
def test_the_packages_do_not_import_jax():
    code = "import sys, dynapurls_jax, data_pipelines; assert not {'jax', 'numpy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
