"""Token extraction: sharded over devices, and resumed after an interruption."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.prepared import PreparedClips
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.encoders.base import trained_encoder
from dynapurls_jax.encoders.registry import make_encoder
from dynapurls_jax.training import extract
from dynapurls_jax.training.pretrain import EncoderStage
from dynapurls_jax.training.run import make_spec
from tests.helpers.trained import SPLIT, small_config, small_inputs

CLIPS = 13


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several batches, the last of which is padded."""
    monkeypatch.setattr(extract, "clips_per_device", lambda: 2)


def small_case():
    """Clips of one or two persons, and an encoder with random weights."""
    clips = np.random.default_rng(0).normal(size=(CLIPS, 2, 8, 20, 3)).astype(np.float32)
    clips[1::2, 1] = 0
    module = make_encoder(small_config().encoder, KINECT_V1)
    init = jax.jit(partial(module.init, method="tokens"))
    variables = init(jax.random.key(0), jnp.asarray(clips[:1]))
    persons = np.where(np.arange(CLIPS) % 2, 1, 2)
    ids = tuple(f"clip{n}" for n in range(CLIPS))
    prepared = PreparedClips(clips, KINECT_V1, persons, ids)
    encoder = trained_encoder(module, variables, ("joint",), KINECT_V1)
    return prepared, EncoderStage(encoder, {"weights": "small"}, {})


def make_tokens(folder):
    """The token store of the small case."""
    prepared, stage = small_case()
    inputs = replace(small_inputs(), clips=prepared)
    return extract.extract(replace(make_spec(inputs, folder, SPLIT, 0), folder=folder), stage)


def test_extraction_equals_the_encoder_and_resumes(tmp_path, monkeypatch, capsys):
    prepared, stage = small_case()
    tokens_of = jax.jit(stage.encoder.tokens, static_argnums=2)
    expected = tokens_of(stage.encoder.variables, jnp.asarray(prepared.clips), 2 * CLIPS)
    read, batches = [], extract.padded_batches

    def interrupted(*args):
        for number, batch in enumerate(batches(*args)):
            if number == 3:
                raise KeyboardInterrupt
            read.append(number)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(extract, "padded_batches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_tokens(tmp_path / "resumed")
    assert read == [0, 1, 2]
    tokens = make_tokens(tmp_path / "resumed")
    # The third batch was not finished at the interruption.
    assert "extracting tokens: resuming after 4 of 13" in capsys.readouterr().err
    np.testing.assert_allclose(tokens, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(tokens, make_tokens(tmp_path / "whole"))


@pytest.mark.slow
def test_several_devices_compute_the_tokens_of_one(tmp_path):
    code = (
        "import sys, pathlib, jax, numpy as np\n"
        "from tests.training.test_extract import make_tokens, extract\n"
        "assert jax.device_count() == 3\n"
        "extract.clips_per_device = lambda: 2\n"
        "np.save(sys.argv[1] + '.npy', make_tokens(pathlib.Path(sys.argv[1])))\n"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=3"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    call = [sys.executable, "-c", code, str(tmp_path / "three")]
    subprocess.run(call, env=environment, check=True, timeout=300)
    one = make_tokens(tmp_path / "one")
    np.testing.assert_allclose(np.load(tmp_path / "three.npy"), one, rtol=1e-3, atol=1e-3)
