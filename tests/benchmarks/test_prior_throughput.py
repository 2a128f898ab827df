"""Throughput of the prior's training: tables and times of its steps, with those of the workers."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import prior_throughput
from benchmarks.prior_throughput import WARM, Meter, main

TINY = ["--model.network.dim=8", "--model.network.layers=1", "--data.rows=[40,60]", "--data.features=[2,4]"]


def test_tables_and_times_of_the_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_throughput, "cpu_seconds", iter([10.0, 12.0, 14.0, 18.0]).__next__)
    monkeypatch.setattr(time, "perf_counter", iter([0.0, 1.0, 2.0, 4.0]).__next__)
    meter, batch = Meter(), SimpleNamespace(x=torch.zeros(6, 2, 2))
    given: Any = (None, None, batch, 0)
    for step in range(2, 6):
        meter.on_train_batch_end(SimpleNamespace(global_step=step), *given)  # type: ignore[arg-type]
    assert WARM == 3
    assert meter.throughput == (12 / 6, 12 / 3)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cpu_time_of_workers_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "import time\nwhile time.process_time() < .3: pass\nprint(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        without = prior_throughput.cpu_seconds()
        monkeypatch.setattr(prior_throughput.multiprocessing, "active_children", lambda: [process])
        assert 0.25 < prior_throughput.cpu_seconds() - without < 3
        process.kill()


def test_each_way_is_trained_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {name: [*changes, *TINY, "--data.num_workers=0"] for name, changes in prior_throughput.WAYS.items()}
    monkeypatch.setattr(prior_throughput, "WAYS", ways)
    main(["--steps=2", "--rounds=2", f"--out={tmp_path / 'report.md'}"])
    lines = (tmp_path / "report.md").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")][2:]
    assert [row[0].removeprefix("| ") for row in rows] == list(ways)
    assert all(float(cell.strip(" |")) > 0 for row in rows for cell in row[1:])
