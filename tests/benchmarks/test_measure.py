"""Measurement: medians within a time budget, and provenance of reports."""

from collections.abc import Callable

import pytest
import torch

from benchmarks import measure
from benchmarks.measure import median_seconds, provenance

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes as many seconds as its step returns."""
    monkeypatch.setattr(measure, "seconds_of", lambda step, device: step())


def counting(seconds: list[float]) -> tuple[list[float], Callable[[], float]]:
    """A step that takes these seconds in turn, and then the last again; and what it took so far."""
    taken: list[float] = []

    def step() -> float:
        taken.append(seconds[min(len(taken), len(seconds) - 1)])
        return taken[-1]

    return taken, step


@pytest.mark.usefixtures("clock")
def test_the_first_run_does_not_count() -> None:
    taken, step = counting([9.0, 1.0, 2.0, 6.0])
    assert median_seconds({"a": step}, 3, CPU) == {"a": 2.0}
    assert len(taken) == 4


@pytest.mark.usefixtures("clock")
def test_a_step_beyond_its_budget_is_skipped() -> None:
    (short, a), (long, b) = counting([0.1]), counting([1.0])
    assert median_seconds({"a": a, "b": b}, 9, CPU, budget=2.5) == {"a": 0.1, "b": 1.0}
    assert (len(short), len(long)) == (10, 4)


@pytest.mark.usefixtures("clock")
def test_one_run_beyond_the_budget_is_enough() -> None:
    taken, step = counting([3.0])
    assert median_seconds({"a": step}, 5, CPU, budget=2.5) == {"a": 3.0}
    assert len(taken) == 1


def test_a_copy_without_its_repository_is_told_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(measure.COMMIT_VARIABLE, "abc1234")
    assert provenance(CPU).endswith(f"torch {torch.__version__}, commit abc1234")
    monkeypatch.delenv(measure.COMMIT_VARIABLE)
    assert "abc1234" not in provenance(CPU)
