"""Preparation of a comparison: steps from a budget of time."""

from pathlib import Path
from typing import Any

import pytest

from tabattn.compare import preparation
from tabattn.compare.leases import write_json
from tabattn.compare.plan import cells_of
from tabattn.compare.preparation import prepare
from tabattn.compare.runner import Signals
from tabattn.compare.store import Store
from tests.compare.tiny import settings

SECONDS = {"kind": "seconds", "value": 2.0}
TIMES = {"Softmax": 10.0, "Linear": 33.0, "TopK": 4000.0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Labels that were timed."""
    labels: list[str] = []

    def timed(store: Store, wanted: list[str], signals: Signals) -> None:
        labels.extend(wanted)
        rows: list[dict[str, Any]] = (store.timing() or {}).get("rows", [])
        rows += [{"attention": each, "mean_ms": TIMES.get(each), "reason": f"no {each}"} for each in wanted]
        write_json(store.folder / "timing.json", {"rows": rows})

    monkeypatch.setattr(preparation, "timed", timed)
    return labels


def prepared(folder: Path, *choices: str, timing: bool = True, budget: Any = SECONDS) -> dict[str, Any]:
    from dataclasses import replace

    given = replace(settings(choices), budget=budget)
    prepare(Store(folder), given, cells_of(given), Signals(), "compare", timing)
    return Store(folder).comparison()


def test_steps_are_the_time_over_the_time_of_a_step_once_and_for_all(tmp_path: Path, asked: list[str]) -> None:
    assert prepared(tmp_path, "Softmax", "Linear", "TopK")["steps"] == {"Softmax": 200, "Linear": 60, "TopK": 5}
    assert asked == ["Softmax", "Linear", "TopK"]
    TIMES["Local"] = 20.0
    steps = prepared(tmp_path, "Softmax", "Linear", "TopK", "Local")["steps"]
    assert steps == {"Softmax": 200, "Linear": 60, "TopK": 5, "Local": 100}
    assert asked[3:] == ["Local"]
    store = Store(tmp_path)
    assert [store.description(cell.key)["steps"] for cell in store.cells()] == [200, 60, 5, 100]


def test_what_cannot_be_timed_has_failed_with_its_reason(tmp_path: Path, asked: list[str]) -> None:
    prepared(tmp_path, "Softmax", "Scratch")
    softmax, scratch = Store(tmp_path).cells()
    assert (softmax.state, scratch.state) == ("waiting", "failed")
    assert scratch.failure == {"reason": "no Scratch", "tail": ""}


def test_a_budget_of_steps_is_timed_too_unless_it_is_not_wanted(tmp_path: Path, asked: list[str]) -> None:
    steps = {"kind": "steps", "value": 7}
    assert prepared(tmp_path / "a", "Softmax", budget=steps)["steps"] == {"Softmax": 7}
    assert asked == ["Softmax"]
    prepared(tmp_path / "a", "Softmax", budget=steps)
    prepared(tmp_path / "b", "Softmax", budget=steps, timing=False)
    assert asked == ["Softmax"]
