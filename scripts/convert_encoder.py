"""Converts published checkpoints of encoders to npz files of Flax variables, Shift-GCN's also back.

  python scripts/convert_encoder.py published.pt shift_gcn.npz
  python scripts/convert_encoder.py --encoder=ctr_gcn published.pth ctr_gcn.npz
  python scripts/convert_encoder.py shift_gcn.npz ours.pt

Checkpoints of Shift-GCN, ST-GCN, 2s-AGCN, AAGCN and CTR-GCN from their official repositories, and
of ST-GCN, AAGCN, CTR-GCN and DG-STGCN from PYSKL. `published_encoder` of
`dynapurls_jax/encoders/convert_gcn.py` makes the network that such variables belong to.

Needs torch, as nothing else here does. Published checkpoints were trained on all classes of
their dataset: their features are no evidence of zero-shot ability.
"""

from pathlib import Path

import numpy as np

from data_pipelines.untrusted import array_names, read_npz, readable
from dynapurls_jax.commands import parser_of

ENCODERS = ("shift_gcn", "stgcn", "agcn", "aagcn", "ctr_gcn", "dg_stgcn")


def main(arguments: list[str] | None = None) -> None:
    """Parses the arguments and converts."""
    parser = parser_of(__doc__)
    parser.add_argument("source", type=Path, help=".pt, .pth or .npz")
    parser.add_argument("target", type=Path, help=".npz or .pt")
    parser.add_argument("--encoder", default="shift_gcn", choices=ENCODERS)
    options = parser.parse_args(arguments)
    # Imports JAX, which --help does without.
    from dynapurls_jax.encoders import convert_gcn, convert_shift_gcn

    kinds = (options.source.suffix.replace(".pth", ".pt"), options.target.suffix)
    try:
        if kinds == (".pt", ".npz"):
            state = load_pt(options.source)
            if options.encoder == "shift_gcn":
                variables = convert_shift_gcn.from_state_dict(state)
            else:
                variables = convert_gcn.from_state_dict(options.encoder, state)
            save_variables(options.target, variables)
        elif kinds == (".npz", ".pt") and options.encoder == "shift_gcn":
            state = convert_shift_gcn.to_state_dict(load_variables(options.source))
            save_pt(options.target, state)
        else:
            raise ValueError(f"expected a .pt and an .npz, got {options.source} {options.target}")
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"written: {options.target}")


def load_pt(file: Path) -> dict[str, np.ndarray]:
    """A state dict; nothing in the file is executed.

    Raises:
      DataError: the file is damaged, or has more than tensors.
    """
    import torch

    with readable("checkpoint", file):
        state = torch.load(file, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)  # PYSKL keeps other things beside it
        return {name: tensor.numpy() for name, tensor in state.items()}


def save_pt(file: Path, state: dict[str, np.ndarray]) -> None:
    """Writes a state dict of tensors."""
    import torch

    torch.save({name: torch.from_numpy(array.copy()) for name, array in state.items()}, file)


def save_variables(file: Path, variables: dict) -> None:
    """Writes Flax variables, one array for each leaf, named by its path."""
    from flax.traverse_util import flatten_dict

    np.savez(file, **flatten_dict(variables, sep="/"))


def load_variables(file: Path) -> dict:
    """Reads a file of `save_variables`."""
    from flax.traverse_util import unflatten_dict

    return unflatten_dict(read_npz(file, array_names(file)), sep="/")


if __name__ == "__main__":
    main()
