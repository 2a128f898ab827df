"""A clock counts what it is asked to: seconds that pass, or seconds that the process computes."""

import time

import pytest
import torch

from callbacks import History, TimeBudget
from callbacks.clock import Clock

CPU = torch.device("cpu")


def test_sleep_passes_and_computes_nothing() -> None:
    wall, computed = Clock("wall"), Clock("cpu")
    time.sleep(0.2)
    assert wall.lap(CPU) >= 0.2
    assert computed.lap(CPU) < 0.1
    assert wall.seconds >= 0.2 > computed.seconds


def test_work_counts_for_both() -> None:
    wall, computed = Clock("wall"), Clock("cpu")
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert wall.lap(CPU) >= 0.05
    assert computed.lap(CPU) >= 0.05


def test_resumed_callbacks_keep_their_timing() -> None:
    for callback in (TimeBudget(3.0, timing="cpu"), History(timing="cpu")):
        callback.load_state_dict({"seconds": 1.5})
        assert (callback.clock.timing, callback.clock.seconds) == ("cpu", 1.5)


def test_another_timing_is_refused() -> None:
    with pytest.raises(ValueError, match="timing must be wall or cpu, got 'gpu'"):
        TimeBudget(1.0, timing="gpu")  # type: ignore[arg-type]
