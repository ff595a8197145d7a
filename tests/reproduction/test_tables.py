"""The tables fit the configuration; the published figures fit the tables and each other."""

import numpy as np
import pytest

from dynapurls_jax.config import load_config
from dynapurls_jax.reproduction.jobs import changed
from dynapurls_jax.reproduction.kinds import ENCODER_KINDS, KINDS
from dynapurls_jax.reproduction.layout import overrides_of
from dynapurls_jax.reproduction.paper import FIGURES, paper_figure
from dynapurls_jax.reproduction.tables import TABLES
from tests.conftest import ROOT


def value_of(config, key):
    """The value of a key such as "method.purls.partition"."""
    for name in key.split("."):
        config = config[name]
    return config


@pytest.mark.parametrize("name", TABLES)
def test_every_override_is_a_key_of_the_configuration(name):
    config = load_config(ROOT / "configs" / "utd_mhad.py")
    for row in TABLES[name].rows:
        for column in TABLES[name].columns:
            overrides = overrides_of(row, column) or {}
            new = changed(config, overrides)
            for key, value in overrides.items():
                assert value_of(new, key) == value
            assert column.kind in KINDS | ENCODER_KINDS


def test_all_results_of_the_paper_have_a_cell():
    for name, row, column in FIGURES:
        assert row in {r.name for r in TABLES[name].rows}
        assert column in {c.name for c in TABLES[name].columns}
    assert paper_figure("ntu120", "10", "dynapurls", "ZSL", "96_24") == 69.11
    assert paper_figure("ntu60", "10", "dynapurls", "ZSL", "96_24") is None
    assert paper_figure("utd_mhad", "10", "dynapurls", "ZSL", "22_5") is None
    assert paper_figure("ntu120", "3", "sa_dvae", "H", "96_24") == 44.50
    assert paper_figure("utd_mhad", "3", "devise", "ZSL", "18_9") == 13.59
    assert paper_figure("pku_mmd", "4", "smie", "ZSL", "random-46_5") == 60.83
    assert paper_figure("pku_mmd", "4", "smie", "H", "random-46_5") is None
    assert paper_figure("ntu60", "5", "posec3d", "Ours", "48_12") == 41.60
    assert paper_figure("ntu120", "5", "posec3d", "Ours", "96_24") is None


def test_harmonic_means_of_table_3_agree_with_its_accuracies():
    """Checks the copied values; the paper rounds some of them."""
    rows = {row for table, row, column in FIGURES if (table, column) == ("3", "H")}
    for row in rows - {"smie"}:  # which has no generalised accuracy
        s, u, h = (np.array(FIGURES["3", row, side]) for side in "SUH")
        np.testing.assert_allclose(2 * s * u / (s + u), h, atol=0.3)


def test_harmonic_means_of_table_9_agree_with_its_accuracies():
    """Checks the copied values, up to rounding and means over runs."""
    for row in ("Baseline", "Partial", "Full"):
        s, u, h = (np.array(FIGURES["9", f"dynapurls, {row}", side]) for side in "SUH")
        np.testing.assert_allclose(2 * s * u / (s + u), h, atol=0.3)
