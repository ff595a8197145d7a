"""No adaptation: the zero-shot method as it was trained."""

from typing import Any

from dynapurls_jax.adaptation.api import (
    Method,
    Prepared,
    State,
    StreamInfo,
    TestTimeEntry,
    learns_nothing,
)
from dynapurls_jax.registry import NoSettings
from dynapurls_jax.zero_shot.base import Variables, ZeroShotMethod


def static(
    model: ZeroShotMethod,
    variables: Variables,
    settings: NoSettings | None = None,
    info: StreamInfo | None = None,
) -> Method:
    """The baseline of all test-time methods; it has no state."""

    def ahead(state: State, features: Any):
        return model.score(variables, features, state.candidates)

    def predict(state: State, prepared: Prepared):
        return prepared.found

    return Method(lambda candidates, active: (), predict, learns_nothing, ahead=ahead)


ENTRY = TestTimeEntry(
    static,
    NoSettings,
    "score",
    description="No adaptation",
)
