"""Compares streams on several devices with the same streams run singly; run as a process."""

import jax
import numpy as np

from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.balanced import BalancedSettings, balanced
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.evaluation.streams import StreamInputs, predict_streams
from dynapurls_jax.rng import key_of
from tests.helpers.small_model import small_model, small_tokens


def main() -> None:
    """Five orders on three devices: the third has one order and one that is padding."""
    assert jax.device_count() == 3
    model, variables, candidates = small_model()
    features = model.encode(variables, small_tokens(24, seed=5))
    orders = [np.random.default_rng(k).permutation(24) for k in range(5)]
    info = StreamInfo.of(features, 24, 2)
    for method in (
        balanced(model, variables, BalancedSettings(window=16), info),
        dynapurls(model, variables, DynaPurlsSettings(capacity=4, min_samples=2), info),
    ):
        adapter = adapter_of(method)
        inputs = StreamInputs(features, candidates)
        got = predict_streams(adapter, inputs, orders, seed=3, chunk=2)
        for number, order in enumerate(orders):
            shuffled = jax.tree.map(lambda leaf, order=order: leaf[order], features)
            state = adapter.init(candidates, key=key_of(3, "stream", number))
            _, alone = run_stream(adapter, state, shuffled, chunk=2)
            np.testing.assert_array_equal(got.predicted[number], alone.label)
            np.testing.assert_allclose(got.confidence[number], alone.confidence, rtol=1e-5)
            np.testing.assert_array_equal(got.adapted[number], alone.adapted)
    print("the same")


if __name__ == "__main__":
    main()
