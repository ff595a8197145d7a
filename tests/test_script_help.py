"""Scripts have a --help: none does its work without reading its arguments."""

from pathlib import Path

import pytest

SCRIPTS = [
    file
    for file in sorted((Path(__file__).parents[1] / "scripts").rglob("*.py"))
    if '__name__ == "__main__"' in file.read_text("utf-8")
]


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_a_script_reads_its_arguments(file):
    text = file.read_text("utf-8")
    assert "parse_args(" in text or "from dynapurls_jax.flags import" in text
