"""Each graph network is trained and encodes clips, as stage 1 of a run."""

import numpy as np
import pytest

from tests.helpers.cases import some
from tests.helpers.graph_networks import NAMES
from tests.helpers.trained import TWO_LAYERS, small_config, small_inputs, train_small


@pytest.mark.parametrize("name", some(NAMES, "stgcn"))
def test_a_graph_network_trains_and_encodes(name, tmp_path):
    config = small_config()
    config.encoder.name, config.method.name = name, "ridge"
    config.encoder[name].update(width=8, layers=TWO_LAYERS)
    config.pretrain.epochs = 1
    inputs = small_inputs(config)
    run = train_small(inputs, tmp_path)
    tokens = np.asarray(run.tokens, np.float32)
    assert tokens.shape == (len(inputs.corpus), 3 * inputs.corpus.skeleton.num_joints, 16)
    assert np.isfinite(tokens).all()
    assert tokens.std(axis=0).max() > 0
