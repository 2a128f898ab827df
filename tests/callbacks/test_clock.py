"""Clock: elapsed time or CPU time."""

import time

import pytest
import torch

from callbacks import History, TimeBudget
from callbacks.clock import Clock

CPU = torch.device("cpu")


def test_sleep_counts_as_wall_time_only() -> None:
    wall, computed = Clock("wall"), Clock("cpu")
    time.sleep(0.2)
    assert wall.lap(CPU) >= 0.2
    assert computed.lap(CPU) < 0.1
    assert wall.seconds >= 0.2 > computed.seconds


def test_computation_counts_as_wall_and_cpu_time() -> None:
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
