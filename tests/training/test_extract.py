"""Tokens of many clips: divided among devices, and gone on with after an interruption."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.prepared import PreparedClips
from dynapurls_jax.config import small_dataset_config
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.training import encode
from dynapurls_jax.training.pretrain import encoder_of

CLIPS, WIDTH = 13, 4


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several batches, the last not full."""
    monkeypatch.setattr(encode, "clips_a_device", lambda: 2)


def small_case():
    """Clips of one or two persons, a narrow encoder with random weights."""
    config = small_dataset_config("demo")
    config.encoder.width = WIDTH
    clips = np.random.default_rng(0).normal(size=(CLIPS, 2, 8, 20, 3)).astype(np.float32)
    clips[1::2, 1] = 0
    variables = jax.jit(encoder_of(config, 5).init)(jax.random.key(0), jnp.asarray(clips[:1]))
    persons = np.where(np.arange(CLIPS) % 2, 1, 2)
    ids = tuple(f"clip{n}" for n in range(CLIPS))
    return config, variables, PreparedClips(clips, KINECT_V1, persons, ids)


def make_tokens(folder):
    """The store of the small case, with its checkpoint named as its origin."""
    return encode.token_store(folder, {"checkpoint": "small"}, *small_case())


def test_tokens_are_those_of_the_encoder_and_resume(tmp_path, monkeypatch, capsys):
    config, variables, clips = small_case()
    tokens_of = jax.jit(encoder_of(config, 5).apply, static_argnames="method")
    expected = tokens_of(variables, jnp.asarray(clips.clips), method="tokens")
    read, batches = [], encode.padded_batches

    def interrupted(array, rows, size, part):
        for number, batch in enumerate(batches(array, rows, size, part)):
            if number == 3:
                raise KeyboardInterrupt
            read.append(number)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(encode, "padded_batches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_tokens(tmp_path / "tokens")
    assert read == [0, 1, 2]
    tokens = make_tokens(tmp_path / "tokens")
    # The third batch was under way when the interruption came.
    assert "extracting tokens: resuming after 4 of 13" in capsys.readouterr().out
    np.testing.assert_allclose(tokens, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(tokens, make_tokens(tmp_path / "whole"))


def test_several_devices_give_what_one_gives(tmp_path):
    code = (
        "import sys, pathlib, jax, numpy as np\n"
        "from tests.test_encode import make_tokens, encode\n"
        "assert jax.device_count() == 3\n"
        "encode.clips_a_device = lambda: 2\n"
        "np.save(sys.argv[1] + '.npy', make_tokens(pathlib.Path(sys.argv[1])))\n"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=3"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    call = [sys.executable, "-c", code, str(tmp_path / "three")]
    subprocess.run(call, env=environment, check=True, timeout=300)
    one = make_tokens(tmp_path / "one")
    np.testing.assert_allclose(np.load(tmp_path / "three.npy"), one, rtol=1e-3, atol=1e-3)
