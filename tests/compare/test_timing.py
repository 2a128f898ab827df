"""Timing of training steps in turn: the time and the share of attention, equal batches, and mechanisms that fail."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tabattn.attention import Softmax
from tabattn.compare import timing, trainings
from tabattn.compare.clocks import Clock, Spans, mechanisms
from tabattn.compare.store import Store
from tabattn.compare.timing import first_seeds, main, measure
from tabattn.compare.trainings import Training, spread, together
from tabattn.nn.multihead import MultiheadAttention
from tests.compare.slow import TICK, FakeClock, Later, Slow

PAIRS = [
    "--config=configs/pairs.yaml",
    *("--model.network.dim=8", "--model.network.heads=2", "--model.network.hidden=8", "--model.network.layers=2"),
    *("--data.batch_size=2", "--data.points=[6,8]", "--data.context=2", "--allow=tests"),
    "--model.scheduled_sampling=0",
]


def cell(attention: str, *further: str) -> tuple[str, list[str]]:
    return attention.rpartition(".")[2], [*PAIRS, f"--model.attention={attention}", *further]


def rows(*cells: tuple[str, list[str]], **options: Any) -> dict[str, dict[str, Any]]:
    return {row["attention"]: row for row in measure(cells, seconds=0.0, clock=FakeClock, **options)}


def test_a_slow_mechanism_takes_the_step() -> None:
    found = rows(cell("Softmax"), cell("tests.compare.slow.Slow"))
    plain, slow = found["Softmax"], found["Slow"]
    # Two layers of 1 second forward and 2 seconds backward; the clock ticks once between begin and end.
    assert slow["step_ms"] == pytest.approx(6000 + 1e3 * TICK)
    assert all(slow[name] == pytest.approx(slow["step_ms"]) for name in ("mean_ms", "step_ms_low", "step_ms_high"))
    assert plain["step_ms"] == pytest.approx(1e3 * TICK)
    assert 0.98 < slow["attention_share"] < 1
    assert 0 < plain["attention_share"] < 0.98
    assert slow["rounds"] == timing.LEAST_ROUNDS
    assert slow["loop_ms"] >= slow["step_ms"]
    assert slow["loop_overhead"] == pytest.approx(slow["loop_ms"] / slow["step_ms"] - 1)
    assert slow["parameters"] == plain["parameters"] > 0
    assert slow["memory_mb"] > 0
    assert slow["reason"] is None


def test_what_fails_is_a_row_with_its_reason() -> None:
    Later.calls = 0
    slow = "tests.compare.slow"
    found = rows(cell(f"{slow}.Failing"), cell("Softmax"), cell("Nothing"), cell(f"{slow}.Later"), rounds=50)
    assert found["Failing"]["reason"] == "RuntimeError: no such kernel"
    assert found["Failing"]["step_ms"] is None
    assert found["Failing"]["rounds"] == 0
    assert "no class is called 'Nothing'" in found["Nothing"]["reason"]
    assert found["Later"]["reason"] == "ValueError: too many calls"
    assert found["Later"]["step_ms"] is found["Later"]["attention_share"] is None
    assert found["Softmax"]["reason"] is None
    assert found["Softmax"]["step_ms"] > 0


def test_warm_up_takes_none_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(timing, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    (row,) = measure([cell("Softmax")], seconds=15.0, clock=FakeClock)
    # Each piece of work takes a second, the last one of the warm-up too; two thirds of the time are for plain steps.
    assert row["rounds"] == 9


def test_all_take_the_same_batches_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[str, int]] = []
    step = Training.step

    def watched(self: Training, number: int) -> None:
        taken.append((self.label, number))
        step(self, number)

    monkeypatch.setattr(Training, "step", watched)
    monkeypatch.setattr(timing, "BATCHES", 2)
    both: list[Training] = []
    monkeypatch.setattr(timing, "together", lambda given, use: (both.extend(given), together(given, use)))
    measure([cell("Softmax"), cell("Local")], seconds=1e9, rounds=4, clock=FakeClock)
    warm_up, plain = taken[:4], taken[4:12]
    assert warm_up == [("Softmax", 0), ("Local", 0), ("Softmax", 1), ("Local", 1)]
    assert plain == warm_up * 2
    for one, other in zip(both[0].drawn, both[1].drawn, strict=True):
        assert torch.equal(one.y, other.y)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_step_is_that_of_the_trainer(accumulated: int) -> None:
    """Weights after steps outside the loop are those of the Trainer's own."""
    trained: list[list[torch.Tensor]] = []
    flags = ("--lr_scheduler=null", f"--trainer.accumulate_grad_batches={accumulated}")
    for own in (True, False):
        training = Training("Softmax", cell("Softmax", *flags)[1], 3)

        def use(started: list[Training], own: bool = own) -> None:
            if own:
                for number in range(3):
                    started[0].step(number * accumulated % 3)

        def after(training: Training, number: int) -> None:
            if training.trainer.global_step == 3:
                raise timing.MeasuredError

        training.after = None if own else after
        together([training], use)
        assert not training.reason
        trained.append([part.detach() for part in training.task.parameters()])
    assert all(map(torch.equal, *trained))


def test_the_loop_is_timed_by_steps() -> None:
    """Also where a step takes several batches: the Trainer takes about as long as the steps alone."""
    row = rows(cell("tests.compare.slow.Slow", "--trainer.accumulate_grad_batches=3"))["Slow"]
    # Two layers of three seconds, for each of three batches.
    assert row["step_ms"] == pytest.approx(18000, rel=1e-3)
    assert row["loop_ms"] == pytest.approx(18000, rel=1e-3)


@pytest.mark.parametrize(
    ("flags", "batches"), [(("--trainer.accumulate_grad_batches=3", "--trainer.max_steps=50"), 150), ((), 2000)]
)
def test_batches_are_those_of_all_steps(monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], batches: int) -> None:
    totals: list[int] = []
    monkeypatch.setattr(
        trainings, "spread", lambda *given: totals.append(given[2]) or itertools.islice(given[0], given[1])
    )
    together([Training("Softmax", cell("Softmax", *flags)[1], 2)], lambda started: None)
    assert totals == [batches]


def test_batches_are_spread_over_the_training() -> None:
    class Loader:
        position = 0

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.position = state["position"]

        def __iter__(self) -> Any:
            yield self.position

    assert list(spread(Loader(), 4, 80)) == [10, 30, 50, 70]
    assert list(spread([1, 2], 3, 80)) == [1, 2, 1]


def test_spans_are_those_of_the_outermost_mechanisms() -> None:
    class Outer(Softmax):
        def __init__(self, heads: int, head_dim: int) -> None:
            super().__init__(heads, head_dim)
            self.inner = Slow(heads, head_dim)

        def forward(self, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
            return self.inner(q, k, v, mask)

    layer = nn.Sequential(MultiheadAttention(4, 2, Outer), nn.Linear(4, 4))
    assert [type(each) for each in mechanisms(layer)] == [Outer]
    spans = Spans(FakeClock(torch.device("cpu")))
    with spans.watching(layer):
        layer(torch.randn(1, 3, 4)).sum().backward()
    assert 3 < spans.seconds() < 3 + 20 * TICK
    with spans.watching(layer), torch.no_grad():
        layer(torch.randn(1, 3, 4))
    assert 4 < spans.seconds() < 4 + 20 * TICK
    layer(torch.randn(1, 3, 4)).sum().backward()
    assert len(spans.spans) == 3


def test_a_clock_measures() -> None:
    assert 0 <= Clock(torch.device("cpu")).time(lambda: None) < 10


def comparison(folder: Path, *cells: tuple[str, int, list[str]]) -> Store:
    store = Store(folder)
    for number, (label, seed, given) in enumerate(cells):
        store.add(str(number), {"attention": label, "label": label, "seed": seed, "arguments": given})
    store.write_comparison({"cells": [str(number) for number in range(len(cells))]})
    return store


def test_the_first_seed_of_each_label_is_timed(tmp_path: Path) -> None:
    store = comparison(tmp_path, ("a", 1, ["--x"]), ("a", 2, ["--y"]), ("b", 1, ["--z"]))
    assert first_seeds(store) == [("a", ("--x",)), ("b", ("--z",))]
    assert first_seeds(store, ["b"]) == [("b", ("--z",))]
    with pytest.raises(ValueError, match="has no cell of c, but of a, b"):
        first_seeds(store, ["c"])


def test_rows_are_added_to_those_of_the_same_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison(tmp_path, ("Softmax", 0, cell("Softmax")[1]), ("Local", 0, cell("Local")[1]))
    monkeypatch.setattr(timing, "BATCHES", 1)

    def labels() -> list[str]:
        found = json.loads((tmp_path / "timing.json").read_text())
        assert all(row["step_ms_low"] <= row["step_ms"] <= row["step_ms_high"] for row in found["rows"])
        return [row["attention"] for row in found["rows"]]

    for given, expected in (("Local", ["Local"]), ("Softmax", ["Local", "Softmax"]), ("Local", ["Softmax", "Local"])):
        main([str(tmp_path), given, "--seconds=0"])
        assert labels() == expected
    monkeypatch.setattr(timing, "described", lambda *_: {"cpu": "another"})
    main([str(tmp_path), "Softmax", "--seconds=0"])
    assert labels() == ["Softmax"]


def test_wrong_arguments_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, message in (([], "holds no comparison"), (["--rounds=2"], "rounds must be at least 3, got 2")):
        with pytest.raises(SystemExit):
            main([str(tmp_path), *given])
        assert message in capsys.readouterr().err
    comparison(tmp_path, ("Softmax", 0, []))
    with pytest.raises(SystemExit, match="has no cell of Local"):
        main([str(tmp_path), "Local"])
