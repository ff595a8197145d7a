"""Signals that are deferred until the state is saved."""

import os
import signal

import pytest

from dynapurls_jax.training.signals import Stopped, deferred_signals


def test_the_first_signal_is_noted_and_the_second_stops(capfd):
    with deferred_signals("stopping soon") as received:
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGINT]
        assert capfd.readouterr().err == "\nstopping soon\n"
        with pytest.raises(Stopped, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
