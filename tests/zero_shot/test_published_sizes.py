"""Methods of other authors have as many parameters as published."""

import jax
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import cada_vae, jpose, neuron, revise, sa_dvae, smie, synse
from dynapurls_jax.zero_shot.base import ClassText, Shapes


@pytest.mark.parametrize(
    ("module", "settings", "width", "count"),
    [
        (revise, revise.ReviseSettings(), 1024, 1_214_780),
        (jpose, jpose.JposeSettings(), 1024, 1_136_700),
        (cada_vae, cada_vae.CadaVaeSettings(), 1024, 385_680),
        (cada_vae, cada_vae.CadaVaeSettings(latent=200), 1024, 770_080),
        (synse, synse.SynseSettings(), 1024, 386_704),
        (synse, synse.SynseSettings(latent=200), 1024, 771_104),
        (sa_dvae, sa_dvae.SaDvaeSettings(), 1024, 629_621),
        (sa_dvae, sa_dvae.SaDvaeSettings(semantic=256, style=32), 1024, 1_030_865),
        (sa_dvae, sa_dvae.SaDvaeSettings(semantic=128, style=16), 512, 313_769),
        (smie, smie.SmieSettings(), 768, 1_574_913),
        (neuron, neuron.NeuronSettings(), 768, 2_014_720),
    ],
)
def test_parameters_are_as_many_as_published(module, settings, width, count):
    shapes = Shapes(KINECT_V1, (1, 1, 256), width)
    text = ClassText(*(jax.ShapeDtypeStruct((3, *s, width), np.float32) for s in ((8,),)))
    text = text._replace(words=jax.ShapeDtypeStruct((3, 2, width), np.float32))
    tokens = jax.ShapeDtypeStruct((4, 1, 256), np.float32)
    init = module.make(settings, shapes).init
    params = jax.eval_shape(init, jax.random.key(0), tokens, text)["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count
