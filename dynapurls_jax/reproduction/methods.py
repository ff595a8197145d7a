"""The zero-shot methods that Tables 3 and 4 compare, on the same encoder and text."""

from typing import Any

POOLED = ("devise", "revise", "jpose", "cada_vae", "synse", "sa_dvae", "smie", "tdsm")
CYCLIC = ("cada_vae", "synse", "sa_dvae")  # with cycles of annealing
ONE_TEXT = ("devise", "revise", "cada_vae", "sa_dvae", "smie")  # or several side by side
# In the order of the tables; each is trained.
TRAINED = (*POOLED, "star", "neuron", "purls_published", "purls", "scople")
# The inputs of all: kinematic statistics; their mean over joints would say little.
INPUTS: dict[str, Any] = {"encoder.name": "kinematics"} | {
    f"method.{name}.features": "tokens" for name in POOLED
}
