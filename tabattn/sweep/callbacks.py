"""Callbacks of a trial: it reports validations to its study, is stopped where it falls behind, and is measured."""

import json
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.clock import Clock
from tabattn.storage.files import write_file

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

WARMUP = 3
"""First steps of a training, which are not measured: memory is allocated and kernels are chosen in them."""

MEASURED = 20
"""Most steps that are measured."""

SHARE = 0.05
"""Share of a budget of seconds after which enough is measured."""


def interval(steps: int, validations: int) -> int:
    """Steps between validations: the last one is at the end, so their number divides the steps.

    Args:
        steps: Steps of the training.
        validations: Most validations.
    """
    return steps // next(number for number in range(min(validations, steps), 0, -1) if steps % number == 0)


class Reports(Callback):
    """Reports each validation of a trial to its study, which may stop the trial.

    Args:
        study: The study, whose pruner decides.
        trial: Identifier of the trial in its storage.
        metric: Validation metric.
        out: File of the outcome: ``{"state": "complete"|"pruned", "best": ..., "step": ..., "steps": ...}``.
    """

    def __init__(self, study: "Study", trial: int, metric: str, out: Path) -> None:
        self.study = study
        self.storage: BaseStorage = study._storage
        self.trial = trial
        self.metric = metric
        self.out = out
        self.scores: dict[int, float] = {}
        self.pruned = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        if self.metric not in trainer.callback_metrics:
            logged = ", ".join(each for each in trainer.callback_metrics if not each.startswith("train/"))
            raise MisconfigurationException(f"--metric: validation logs no {self.metric!r} but {logged or 'nothing'}")
        score = trainer.callback_metrics[self.metric].item()
        if trainer.is_global_zero and math.isfinite(score):
            self.scores[trainer.global_step] = score
            self.storage.set_trial_intermediate_value(self.trial, trainer.global_step, score)
            frozen = self.storage.get_trial(self.trial)
            self.pruned = trainer.global_step < trainer.max_steps and self.study.pruner.prune(self.study, frozen)
        self.pruned = trainer.strategy.broadcast(self.pruned)
        trainer.should_stop = trainer.should_stop or self.pruned

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and self.scores:
            choose = max if self.study.direction.name == "MAXIMIZE" else min
            best = choose(self.scores, key=self.scores.__getitem__)
            state = "pruned" if self.pruned else "complete"
            outcome = {"state": state, "best": self.scores[best], "step": best, "steps": trainer.global_step}
            write_file(self.out, json.dumps(outcome).encode())


class Pace(Callback):
    """Measures the seconds of a training step, and stops.

    Seconds of CPU time on a CPU, which other processes hardly lengthen, and elapsed ones on an accelerator.

    Args:
        budget: Seconds of the training that is planned.
        out: File of the result: ``{"seconds": ...}``.
    """

    def __init__(self, budget: float, out: Path) -> None:
        self.budget = budget
        self.out = out
        self.laps: list[float] = []
        self.clock = Clock("cpu")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock = Clock("cpu" if trainer.strategy.root_device.type == "cpu" else "wall")

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.laps.append(self.clock.lap(trainer.strategy.root_device) * trainer.accumulate_grad_batches)
        kept = self.laps[WARMUP:]
        enough = len(kept) >= MEASURED or sum(self.laps) >= SHARE * self.budget
        trainer.should_stop = trainer.strategy.broadcast(bool(kept) and enough)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            seconds = statistics.median(self.laps[WARMUP:] or self.laps)
            write_file(self.out, json.dumps({"seconds": seconds}).encode())
