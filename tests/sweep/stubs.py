"""Sweeps whose trials are computed in the process of the test."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabattn.sweep.folder import Folder, Settings
from tabattn.sweep.runner import Worker
from tabattn.sweep.study import Claims

TUNE = ["optimizer.lr=log:1e-4..1", "model.dim=8..32:8"]


def score(params: dict[str, Any]) -> float:
    """Score of a trial, best at lr 0.01 and dim 32."""
    return -((math.log10(params["optimizer.lr"]) + 2) ** 2) + params["model.dim"] / 100


def sweep(path: Path, tune: list[str] = TUNE, **changes: Any) -> Folder:
    """Folder of a sweep."""
    folder = Folder(path)
    length = {"kind": "steps", "value": 20}
    settings = {"flags": ["--config=x"], "tune": tune, "budget": length, "metric": "val/s", "mode": "max", **changes}
    folder.agree(Settings(**settings))
    return folder


class Computed(Worker):
    """Worker whose trials have the score of a function, or an exit status.

    Args:
        folder: Folder of the sweep.
        most: Number of trials.
        function: From the values to a score, or an exit status as ``int``.
    """

    def __init__(self, folder: Folder, most: int, function: Callable[[dict[str, Any]], float] = score) -> None:
        self.lines: list[str] = []
        super().__init__(folder, Claims(folder, most), 1, self.lines.append)
        self.function = function

    def run(self) -> list[str]:
        """Run all trials; return the lines that were printed."""
        self._run()
        if self.fault is not None:
            raise self.fault
        return self.lines

    def _process(self, number: int, *what: str) -> int:
        own = self.folder.trial(number)
        found = self.function(json.loads((own / "trial.json").read_text())["params"])
        if isinstance(found, int):
            (own / "log.txt").write_text(f"error: it ends with {found}\n")
            return found
        (own / "run").mkdir()
        (own / "run" / "config.yaml").write_text("trainer: {max_steps: 20}\nrun: {root: somewhere}\nckpt_path: null\n")
        outcome = {"state": "complete", "best": found, "step": 16, "steps": 20}
        (own / "outcome.json").write_text(json.dumps(outcome))
        return 0
