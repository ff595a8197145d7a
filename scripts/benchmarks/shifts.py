"""The two shifts of Shift-GCN in several forms: milliseconds of each.

  python scripts/benchmarks/shifts.py                  64 channels, T = 64, V = 25, 16 persons
  python scripts/benchmarks/shifts.py --frames 300     full length

Forward alone, and with the gradient to the features (and to the displacements). A copy of the
features is timed beside them: no form can be faster. The encoder's own form is "gather".
"""

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--channels", type=int, default=64)
PARSER.add_argument("--frames", type=int, default=64)
PARSER.add_argument("--persons", type=int, default=16)
PARSER.add_argument("--repeats", type=int, default=20, help="timed calls; the fastest counts")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

from collections.abc import Callable

import jax
import jax.numpy as jnp
from timing import fastest_jax, line, table

from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.shifts import spatial_shift, temporal_shift
from dynapurls_jax.host_memory import keep_memory

WINDOW = 4  # frames to either side that the banded form can reach


def spatial_plain_gather(x):
    """The same gather, with the gradient that JAX finds: a scatter."""
    channels, _, joints, _ = x.shape
    index = (jnp.arange(joints) + jnp.arange(channels)[:, None]) % joints
    return jnp.take_along_axis(x, index[:, None, :, None], axis=2)


def spatial_rolls(x):
    """One roll for each group of channels with the same shift."""
    joints = x.shape[2]
    groups = [jnp.roll(x[c::joints], -c, axis=2) for c in range(min(joints, x.shape[0]))]
    whole = -(-x.shape[0] // joints)
    padded = [jnp.pad(g, ((0, whole - len(g)), (0, 0), (0, 0), (0, 0))) for g in groups]
    mixed = jnp.stack(padded, axis=1).reshape(-1, *x.shape[1:])
    return mixed[: x.shape[0]]


def spatial_one_hot(x):
    """A permutation matrix of the joints for each channel."""
    channels, _, joints, _ = x.shape
    index = (jnp.arange(joints) + jnp.arange(channels)[:, None]) % joints
    return jnp.einsum("cvw,ctwn->ctvn", jax.nn.one_hot(index, joints), x)


def temporal_plain_gather(x, displacement):
    """The encoder's two gathers, with the gradient that JAX finds: scatters."""
    whole = jnp.floor(displacement)
    before = whole.astype(jnp.int32)[:, None] + jnp.arange(x.shape[1])
    share = (displacement - whole)[:, None, None, None]

    def read(index):
        inside = (index >= 0) & (index < x.shape[1])
        values = jnp.take_along_axis(x, index.clip(0, x.shape[1] - 1)[:, :, None, None], axis=1)
        return jnp.where(inside[:, :, None, None], values, 0)

    return read(before) * (1 - share) + read(before + 1) * share


def temporal_matrix(x, displacement):
    """An interpolation matrix over all frames for each channel."""
    frame = jnp.arange(x.shape[1])
    distance = frame[:, None] + displacement[:, None, None] - frame
    return jnp.einsum("cts,csvn->ctvn", jax.nn.relu(1 - jnp.abs(distance)), x)


def temporal_banded(x, displacement):
    """A depthwise convolution in time; its window holds the two weights of the interpolation."""
    channels, frames, joints, persons = x.shape
    offsets = jnp.arange(-WINDOW, WINDOW + 1)
    taps = jax.nn.relu(1 - jnp.abs(displacement[:, None] - offsets))
    series = x.reshape(channels, frames, -1).transpose(2, 0, 1)
    out = jax.lax.conv_general_dilated(
        series, taps[:, None], (1,), [(WINDOW, WINDOW)], feature_group_count=channels
    )
    return out.transpose(1, 2, 0).reshape(channels, frames, joints, persons)


def main() -> None:
    """Prints a table."""
    options = PARSER.parse_args()
    keep_memory()
    shape = (options.channels, options.frames, 25, options.persons)
    x = jax.random.normal(jax.random.key(0), shape)
    displacement = jax.random.uniform(jax.random.key(1), shape[:1], minval=-2, maxval=2)
    device = jax.devices()[0].device_kind
    print(f"{device}, jax {jax.__version__}, features {shape}, {x.nbytes / 1e6:.1f} MB")
    table("shift", "form", "forward ms", "with gradient ms")
    report("none", "copy", jnp.negative, (x,), options.repeats)
    spatial = {
        "gather": lambda x: spatial_shift(x, 1),
        "gather, JAX's gradient": spatial_plain_gather,
        "grouped rolls": spatial_rolls,
        "one-hot": spatial_one_hot,
    }
    temporal = {
        "gather": lambda x, displacement: temporal_shift(x, displacement, 1),
        "gather, JAX's gradient": temporal_plain_gather,
        "matrix": temporal_matrix,
        "banded": temporal_banded,
    }
    for name, form in spatial.items():
        check(form, spatial_shift(x, 1), (x,))
        report("spatial", name, form, (x,), options.repeats)
    for name, form in temporal.items():
        check(form, temporal_shift(x, displacement, 1), (x, displacement))
        report("temporal", name, form, (x, displacement), options.repeats)


def check(form: Callable, expected, arguments: tuple) -> None:
    """All forms of a shift are the same function."""
    error = float(jnp.abs(form(*arguments) - expected).max())
    if error > 1e-3:
        raise SystemExit(f"{form} differs from the encoder's shift by {error}")


def report(shift: str, name: str, form: Callable, arguments: tuple, repeats: int) -> None:
    """Prints the line of a form."""
    positions = tuple(range(len(arguments)))

    def squared(*inputs):
        return 0.5 * jnp.sum(form(*inputs) ** 2)

    forward = fastest_jax(repeats, jit(form), *arguments)
    both = fastest_jax(repeats, jit(jax.grad(squared, argnums=positions)), *arguments)
    line(shift, name, f"{1e3 * forward:.2f}", f"{1e3 * both:.2f}")


if __name__ == "__main__":
    main()
