"""Workers of a sweep: how a trial ends, and what is written."""

import csv
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabattn.sweep import report
from tabattn.sweep.runner import Worker, ended
from tabattn.sweep.study import Claims, load
from tests.sweep.stubs import Computed, score, sweep


def test_failures_have_reasons(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    ends = iter([0.5, 1, -9, 4, 0.25])
    lines = Computed(folder, 5, lambda params: next(ends)).run()
    states = [each.state.name for each in load(folder).get_trials()]
    assert states == ["COMPLETE", "FAIL", "FAIL", "PRUNED", "COMPLETE"]
    assert lines[1].endswith("failed: it ends with 1")
    assert "killed by signal 9" in lines[2]
    assert lines[3].endswith("stopped: it ends with 4")
    text = report.write(folder)
    assert "5 trials: 2 complete, 1 stopped, 2 failed" in text
    assert "last failure: trial 3: it ends with 4" in text
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete", "failed", "failed", "stopped", "complete"]
    assert [row["best"] for row in rows] == ["0.5", "", "", "", "0.25"]
    assert rows[2]["reason"].startswith("killed by signal 9")


def test_a_trial_that_cannot_be_measured_is_not_trained(tmp_path: Path) -> None:
    folder = sweep(tmp_path, budget={"kind": "seconds", "value": 5.0})
    calls: list[tuple[str, ...]] = []

    class Unmeasured(Computed):
        def _process(self, number: int, *what: str) -> int:
            calls.append(what)
            return super()._process(number, *what)

    lines = Unmeasured(folder, 1, lambda params: 1).run()
    assert calls == [("pace",)]
    assert lines[0].endswith("failed: it ends with 1")


def test_a_run_without_a_score_fails(tmp_path: Path) -> None:
    assert ended(tmp_path, 0) == ("FAIL", None, {"reason": "no validation gave a finite score"})
    (tmp_path / "log.txt").write_text("Traceback\nerror: first\nValueError: wrong\nerror: the disk is full\n\n")
    assert ended(tmp_path, 3)[2] == {"reason": "the disk is full"}
    (tmp_path / "log.txt").write_text("Traceback\nValueError: wrong\n")
    assert ended(tmp_path, 1)[2] == {"reason": "ValueError: wrong"}
    (tmp_path / "log.txt").write_text("")
    assert ended(tmp_path, 1)[2] == {"reason": "exit status 1"}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_results(tmp_path: Path, mode: str) -> None:
    folder = sweep(tmp_path, mode=mode)
    Computed(folder, 6).run()
    text = report.write(folder)
    scores = {each.number: score(each.params) for each in load(folder).get_trials()}
    best = (max if mode == "max" else min)(scores, key=scores.__getitem__)
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["trial", "val/s", "seconds", "optimizer.lr", "model.dim"]
    assert [int(row[0]) for row in rows[1:7]] == sorted(scores, key=scores.__getitem__, reverse=mode == "max")
    assert text.endswith(f"best: trial {best}, {tmp_path / 'best.yaml'}")
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {"trainer": {"max_steps": 20}}
    assert (
        (tmp_path / "best.yaml").read_text().startswith(f"# Best of a sweep: val/s {scores[best]:.6g} after 16 of 20")
    )
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_complete(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    Computed(folder, 2, lambda params: 1).run()
    assert report.write(folder) == "no trial is complete"
    assert {path.name for path in tmp_path.iterdir()} >= {"trials.csv"}
    assert not (tmp_path / "best.yaml").exists()


def test_an_interrupted_trial_is_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sweep(tmp_path)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    start: Any = subprocess.Popen
    begun = threading.Event()

    def popen(command: list[str], **options: Any) -> Any:
        process = start(sleep if "tabattn.sweep.trial" in command else command, **options)
        begun.set()
        return process

    monkeypatch.setattr("tabattn.sweep.runner.subprocess.Popen", popen)
    worker = Worker(folder, Claims(folder, 3), 1, lambda text: None)
    thread = worker.start()
    assert begun.wait(30)
    stopped = time.monotonic()
    worker.stopped.set()
    thread.join(30)
    assert time.monotonic() - stopped < 15, "the process is terminated, not waited for"
    assert worker.fault is None
    first = load(folder).get_trials()
    assert [each.state.name for each in first] == ["FAIL", "WAITING"]
    assert first[0].user_attrs["again"] == "it was interrupted"
    Computed(folder, 3).run()
    undisturbed = sweep(tmp_path / "undisturbed")
    Computed(undisturbed, 3).run()
    assert [each.params for each in load(folder).get_trials()[1:]] == [
        each.params for each in load(undisturbed).get_trials()
    ]
