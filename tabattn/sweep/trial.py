"""Process of one trial: ``python -m tabattn.sweep.trial FOLDER NUMBER``, which workers of a sweep start."""

import json
import os
import sys
import threading
import time
from pathlib import Path

from tabattn.cli import main as train
from tabattn.compare.validations import Validations
from tabattn.sweep.callbacks import Pace, Reports, interval
from tabattn.sweep.folder import Folder
from tabattn.sweep.study import load

POLL = 0.5
"""Interval in seconds at which a trial checks that its worker is there."""

UNWATCHED = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")

SHORT = (
    *("--trainer.logger=false", "--trainer.enable_checkpointing=false"),
    *("--trainer.limit_val_batches=0", "--trainer.num_sanity_val_steps=0"),
)
"""Flags of a training that is only measured."""


def measure(folder: Folder, number: int) -> int:
    """Measure the seconds of a step by the first steps of the training; return the exit status."""
    settings, own = folder.settings(), folder.trial(number)
    pace = Pace(settings.budget["value"], own / "pace.json")
    return train(["fit", *_arguments(own), *SHORT, *UNWATCHED], callbacks=[pace])


def run(folder: Folder, number: int) -> int:
    """Train, and report to the study; return the exit status."""
    settings, own = folder.settings(), folder.trial(number)
    steps = steps_of(folder, number)
    study = load(folder)
    trial = study.get_trials(deepcopy=False)[number]._trial_id
    validations = Validations(interval(steps, settings.validations))
    reports = Reports(study, trial, settings.metric, own / "outcome.json")
    length = [f"--trainer.max_steps={steps}", "--trainer.max_epochs=-1", "--trainer.max_time=null"]
    place = [f"--run.root={own}", "--run.name=.", "--run.version=run"]
    return train(["fit", *_arguments(own), *length, *place, *UNWATCHED], callbacks=[validations, reports])


def steps_of(folder: Folder, number: int) -> int:
    """Steps of a trial: the budget, or as many as fit into its seconds, in even parts between the validations."""
    settings = folder.settings()
    if settings.budget["kind"] == "steps":
        return int(settings.budget["value"])
    pace = json.loads((folder.trial(number) / "pace.json").read_text())["seconds"]
    parts = settings.validations
    return max(1, int(settings.budget["value"] / pace / parts)) * parts


def _arguments(own: Path) -> list[str]:
    words: list[str] = json.loads((own / "trial.json").read_text())["arguments"]
    return words


def _watch(parent: int) -> None:
    """End this process when its worker is gone, as another one runs the trial again."""
    while os.getppid() == parent:
        time.sleep(POLL)
    os._exit(1)


def main() -> int:
    """Run the command line."""
    folder, number, *what = sys.argv[1:]
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    return (measure if what else run)(Folder(Path(folder)), int(number))


if __name__ == "__main__":
    sys.exit(main())
