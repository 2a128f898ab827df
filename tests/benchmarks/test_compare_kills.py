"""Comparisons under kills: what counts as lost, doubled or different, and a short run."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import compare_kills
from benchmarks.compare_kills import Disturbance, arguments, compared, main, report
from tabattn.compare.leases import write_json
from tabattn.compare.store import Store

RESULT: dict[str, Any] = {
    **{"scores": {"test/auroc": 0.5}, "sets": {}, "metric": "test/auroc", "steps": 2, "parameters": 3},
    **{"train_seconds": 1.0, "curve": "attempts/1/curve.csv", "maps": "attempts/1/maps.npz"},
}


def finished(folder: Path, attempts: int = 1, loss: float = 0.25, seconds: float = 1.0, **others: Any) -> Store:
    """Store of one cell with a result of its first attempt."""
    store = Store(folder)
    store.write_comparison({"cells": ["k"]})
    store.add("k", {"key": "k"})
    for number in range(1, attempts + 1):
        (store.cell("k") / "attempts" / str(number)).mkdir(parents=True)
    first = store.cell("k") / "attempts" / "1"
    (first / "curve.csv").write_text(f"step,seconds,loss,score\n1,{seconds},{loss},\n")
    np.savez(first / "maps.npz", layer=np.full((1, 2, 2), 0.5, np.float16))
    write_json(store.cell("k") / "result.json", {**RESULT, "train_seconds": seconds, **others})
    return store


def test_times_may_differ_and_nothing_else(tmp_path: Path) -> None:
    calm = finished(tmp_path / "calm")
    assert compared(calm, finished(tmp_path / "same", seconds=9.0)) == {"lost": [], "doubled": [], "different": []}
    assert compared(calm, finished(tmp_path / "loss", loss=0.26))["different"] == ["k"]
    assert compared(calm, finished(tmp_path / "score", scores={"test/auroc": 0.6}))["different"] == ["k"]
    assert compared(calm, finished(tmp_path / "twice", attempts=2))["doubled"] == ["k"]
    lost = finished(tmp_path / "lost")
    (lost.cell("k") / "result.json").unlink()
    assert compared(calm, lost)["lost"] == ["k"]
    more = finished(tmp_path / "more")
    more.write_comparison({"cells": ["k", "other"]})
    assert compared(calm, more)["doubled"] == ["other"]


def test_the_report_counts(tmp_path: Path) -> None:
    wild = finished(tmp_path / "a", attempts=3)
    options = arguments(["--folder", str(tmp_path)])
    found = Disturbance(Counter(worker=7, runner=2), 300.0)
    text = report(found, wild, {"lost": [], "doubled": ["k"], "different": []}, options)
    for line in ("| kills of a worker | 7 |", "| kills of the runner | 2 |", "most of one | 3; 3 |", "result | 1 |"):
        assert line in text


@pytest.mark.slow
def test_no_cell_is_lost_doubled_or_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        compare_kills,
        "FLAGS",
        [each.replace(compare_kills.MECHANISMS, "Softmax,Linear") for each in compare_kills.FLAGS],
    )
    out = tmp_path / "report.md"
    words = ["--folder", str(tmp_path / "a b"), "--seeds=1", "--steps=20", "--every=10", f"--out={out}"]
    assert main(words) == 0
    assert "| cells without a result | 0 |" in out.read_text()
    assert len(json.loads((tmp_path / "a b" / "disturbed" / "comparison.json").read_text())["cells"]) == 2
