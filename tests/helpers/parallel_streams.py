"""Streams over several devices against the same streams one by one; for a process of its own."""

import jax
import numpy as np

from dynapurls_jax.adaptation import adapter_of, balanced, dynapurls, run_stream
from dynapurls_jax.adaptation.balanced import BalancedSettings
from dynapurls_jax.adaptation.dynapurls import RefineSettings
from dynapurls_jax.evaluation.streams import predict_streams, stream_key
from tests.helpers.small_model import first, small_model, small_tokens


def main() -> None:
    """Five orders over three devices: the third has one of its own, and one that does not count."""
    assert jax.device_count() == 3
    model, variables, text = small_model()
    stream = model.encode(variables, small_tokens(24, seed=5))
    orders = [np.random.default_rng(k).permutation(24) for k in range(5)]
    for method in (
        balanced(model, variables, BalancedSettings(window=16)),
        dynapurls(model, variables, first(stream), RefineSettings(slots=4, min_samples=2)),
    ):
        adapter = adapter_of(method)
        got = predict_streams(adapter, text, stream, orders, seed=3, chunk=2)
        for number, order in enumerate(orders):
            shuffled = jax.tree.map(lambda leaf, order=order: leaf[order], stream)
            state = adapter.init(text, key=stream_key(3, number))
            _, alone = run_stream(adapter, state, shuffled, chunk=2)
            np.testing.assert_array_equal(got.predicted[number], alone.label)
            np.testing.assert_allclose(got.confidence[number], alone.confidence, rtol=1e-5)
            np.testing.assert_array_equal(got.adapted[number], alone.adapted)
    print("the same")


if __name__ == "__main__":
    main()
