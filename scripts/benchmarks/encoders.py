"""Clips per second of each trained encoder, inference and training, against eager PyTorch.

  python scripts/benchmarks/encoders.py                             all, T = 64, batches of 4 clips
  python scripts/benchmarks/encoders.py --encoders ctr_gcn --frames 300 --batch 1
  taskset -c 1 python scripts/benchmarks/encoders.py --processor_time   one core, other work beside

All lines are of one run on one device, random clips of two persons, published widths, V = 25,
float32. PyTorch is `tests/helpers/torch_*.py` (extra dev). Before, the logits of both are compared
at the same parameters. The heatmaps of posec3d are drawn in the time of JAX alone.

`ratio` is clips/s of JAX over those of PyTorch. `GFLOP` is of inference of a clip, as XLA counts
it; the first lines of each encoder's file have the expected cost.
"""

from reference import need_reference, timing_options

from dynapurls_jax.commands import parser_of

ENCODERS = ("shift_gcn", "stgcn", "agcn", "aagcn", "ctr_gcn", "dg_stgcn", "posec3d")

PARSER = parser_of(__doc__)
PARSER.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=ENCODERS)
PARSER.add_argument("--frames", type=int, default=64, help="T, a multiple of 4")
PARSER.add_argument("--batch", type=int, default=4, help="in clips")
timing_options(PARSER, repeats=3)
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds
    need_reference(PARSER)

import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from encoder import CLASSES, JOINTS, PERSONS, WIDTH, time_jax, time_torch
from timing import device_title, line, table

from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.encoders import convert_gcn, convert_shift_gcn, posec3d
from dynapurls_jax.encoders.base import SkeletonEncoder
from dynapurls_jax.encoders.heatmaps import joint_heatmaps
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.layers import spatial_subsets
from dynapurls_jax.encoders.shift_gcn import ShiftGCN
from dynapurls_jax.encoders.stgcn import distance_subsets
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.classifiers import Classifier
from tests.helpers.torch_gcns import TorchGcn, pyskl_names
from tests.helpers.torch_posec3d import TorchSlowOnly
from tests.helpers.torch_shift_gcn import TorchShiftGCN


def main() -> None:
    """Prints a table as it grows."""
    options = PARSER.parse_args()
    keep_memory()  # for both frameworks: they share the process
    clock = time.process_time if options.processor_time else time.perf_counter
    print(
        f"{device_title()}, torch {torch.__version__}, {torch.get_num_threads()} threads; "
        f"T = {options.frames}, {options.batch} clips; "
        f"{'processor' if options.processor_time else 'elapsed'} time, clips/s"
    )
    table("encoder", "GFLOP", "inference", "torch", "ratio", "training", "torch", "ratio")
    for name in options.encoders:
        network = reference(name)
        classifier, work = checked(name, network, options.frames)
        sizes = options.batch, options.frames, options.repeats
        own = time_jax(classifier, *sizes, clock)
        theirs = time_torch(network, *sizes, clock=clock)
        cells = [(f"{a:.2f}", f"{b:.2f}", f"{a / b:.1f}") for a, b in zip(own, theirs, strict=True)]
        line(name, f"{work / 1e9:.1f}", *cells[0], *cells[1])


def reference(name: str) -> torch.nn.Module:
    """The network in PyTorch."""
    torch.manual_seed(0)
    if name == "shift_gcn":
        return TorchShiftGCN(CLASSES, WIDTH, JOINTS, PERSONS)
    if name == "posec3d":
        return TorchPoseC3D()
    subsets = distance_subsets if name == "stgcn" else spatial_subsets
    bones = torch.tensor(subsets(convert_gcn.TREE), dtype=torch.float32)
    return TorchGcn(name, bones, CLASSES)


class TorchPoseC3D(torch.nn.Module):
    """PoseC3D at the published size; heatmaps are drawn once for a number of clips."""

    settings = posec3d.PoseC3DSettings()

    def __init__(self):
        super().__init__()
        self.network = TorchSlowOnly(JOINTS, self.settings.width, self.settings.blocks)
        self.classifier = torch.nn.Linear(16 * self.settings.width, CLASSES)
        self.volumes: dict[int, torch.Tensor] = {}

    def forward(self, clips):
        """Logits `[B, classes]` of clips `[B, 3, T, V, M]`."""
        if len(clips) not in self.volumes:
            moved = jnp.asarray(clips.permute(0, 4, 2, 3, 1).numpy())
            drawn = joint_heatmaps(moved, self.settings.frames, self.settings.size)
            with torch.inference_mode(False):  # for the gradient, too
                self.volumes[len(clips)] = torch.tensor(np.asarray(drawn)).permute(0, 4, 1, 2, 3)
        *_, features = self.network(self.volumes[len(clips)]).values()
        return self.classifier(features.mean(dim=(2, 3, 4)))

    def variables(self) -> dict:
        """Parameters and statistics as here."""
        params, stats = self.network.tree(lambda tensor: tensor.detach().numpy())
        stats = jax.tree.map(lambda tensor: tensor.numpy(), stats)
        weight, bias = (leaf.detach().numpy() for leaf in self.classifier.parameters())
        params = {"network": params, "classifier": {"kernel": weight.T, "bias": bias}}
        return {"params": params, "batch_stats": {"network": stats}}


def checked(name: str, network: torch.nn.Module, frames: int) -> tuple[Classifier, float]:
    """The classifier here and the FLOPs of a clip; with the same parameters, logits are equal."""
    state = {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}
    if name == "shift_gcn":
        encoder = SkeletonEncoder(ShiftGCN(WIDTH), count_absent=True)
        variables = convert_shift_gcn.from_state_dict(state)
    elif name == "posec3d":
        encoder = posec3d.make(network.settings, KINECT_V2)
        variables = network.variables()
    else:
        state = pyskl_names(name, state) if name == "dg_stgcn" else state
        encoder = convert_gcn.published_encoder(name, state)
        variables = convert_gcn.from_state_dict(name, state)
    clips = np.random.default_rng(0).normal(size=(1, PERSONS, frames, JOINTS, 3))
    clips = clips.astype(np.float32)
    classifier = Classifier(encoder, CLASSES)
    arguments = jax.tree.map(jnp.asarray, variables), jnp.asarray(clips)
    program = jit(classifier.apply).lower(*arguments).compile()
    with torch.inference_mode():
        theirs = network.eval()(torch.tensor(clips.transpose(0, 4, 2, 3, 1))).numpy()
    np.testing.assert_allclose(program(*arguments), theirs, rtol=1e-3, atol=1e-3)
    return classifier, program.cost_analysis()["flops"]


if __name__ == "__main__":
    main()
