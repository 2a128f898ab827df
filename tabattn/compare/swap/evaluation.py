"""Swap table of any task: the task's own test with each mechanism."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from callbacks import probe
from tabattn.cli import CLI
from tabattn.compare.swap.limits import Limits
from tabattn.compare.swap.measure import FAILURES, Agreement, Meter, agreement, failure, in_turns, memory_limit
from tabattn.compare.swap.results import Row
from tabattn.compare.swap.trained import Trained
from tabattn.compare.swap.variants import Variant
from tabattn.task import Task

PREDICTED = 2
"""Batches of the test that are timed and whose answers are compared."""


class Prepared(CLI):
    """Configuration of a task's test: its data and the settings of its trainer; nothing is run.

    Args:
        words: ``--config`` and further flags.

    Raises:
        SystemExit: The arguments are wrong.
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(["test", *words])

    def _set_seed(self) -> None:
        """Leave the random states of this process as they are."""

    def instantiate_classes(self) -> None:
        """Build the data alone."""
        self.options: Any = self.config[self.subcommand]
        config = self.config.clone()
        part = config[self.subcommand]
        for name in [name for name in vars(part) if name != "data"]:
            del part[name]
        self.data: Any = self.parser.instantiate_classes(config)[self.subcommand].data

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""

    def completed(self, trained: Trained) -> Trained:
        """Trained task, with the arguments that it leaves to the configuration.

        Raises:
            ValueError: The configuration is of another task.
        """
        model = self.options.model
        name = model.class_path.rpartition(".")[2]
        if name != trained.kind.__name__:
            raise ValueError(f"{trained.where} is of {trained.kind.__name__}, the configuration of {name}")
        own = {key: value for key, value in model.init_args.as_dict().items() if key != "init_from"}
        return trained._replace(arguments={**own, **trained.arguments})

    def evaluator(self, *callbacks: Callback) -> Trainer:
        """Trainer that shows nothing and writes no files."""
        given = self.options.trainer
        return Trainer(
            accelerator=given.accelerator,
            devices=1,
            precision=given.precision,
            limit_test_batches=given.limit_test_batches,
            limit_val_batches=given.limit_val_batches,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


class FirstBatches(Callback):
    """Keeps the first batches of an evaluation."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if len(self.batches) < PREDICTED:
            self.batches.append(batch)

    on_validation_batch_start = on_test_batch_start


def scores_of(prepared: Prepared, task: Task, *callbacks: Callback) -> dict[str, float]:
    """Score a task on its test data, or on its validation data where there is no other.

    Returns:
        Every metric that it logs.
    """
    stage = "test" if is_overridden("test_dataloader", prepared.data) else "val"
    trainer = prepared.evaluator(*callbacks)
    with isolate_rng():
        seed_everything(0, verbose=False)
        (trainer.test if stage == "test" else trainer.validate)(task, datamodule=prepared.data, verbose=False)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name: value for name, value in found.items() if name.startswith(f"{stage}/")}


def rows(prepared: Prepared, variants: Sequence[Variant], limits: Limits, told: Callable[[str], None]) -> Iterator[Row]:
    """Yield the rows of the table, without comparison.

    Args:
        prepared: Data and trainer.
        variants: Variants, the trained one first.
        limits: Limits of the measurements.
        told: Called with what is measured, in words.

    Raises:
        ValueError: The trained variant cannot be measured.
    """
    kept, lines, meters, answers = FirstBatches(), {}, {}, {}
    for variant in variants:
        told(f"test: {variant.choice.label}")
        first = variant is variants[0]
        row = Row(variant.choice.label, variant.choice.attention, None, first)
        row.untrained, row.reason = variant.untrained, variant.reason
        lines[row.label] = row
        if variant.task is None:
            continue
        try:
            with memory_limit(limits.memory):
                row.scores = scores_of(prepared, variant.task, *([kept] if first else []))
                meters[row.label] = _meter(prepared, variant.task, kept.batches)
                answers[row.label] = meters[row.label].time()
        except (*FAILURES, MisconfigurationException) as ex:
            if first:
                raise ValueError(f"{row.label}, the trained mechanism: {failure(ex, limits.memory)}") from ex
            row.reason = failure(ex, limits.memory)
            meters.pop(row.label, None)
    told("time and memory")
    in_turns(meters, limits.rounds, limits.seconds)
    for meter in meters.values():
        meter.remember(limits.memory)
    own = variants[0].choice.label
    for label, row in lines.items():
        if label in meters:
            row.timing = meters[label].timing()
            row.agreement = _agreement(variants[0].task, answers[own], answers[label])
        yield row


def _meter(prepared: Prepared, task: Task, batches: Sequence[Any]) -> Meter:
    """Meter of the task's forward pass on the kept batches."""
    trainer = prepared.evaluator()
    task.to(trainer.strategy.root_device)
    moved = [probe.to_device(task, batch) for batch in batches]

    def run() -> list[Any]:
        with probe.unnoticed(trainer, task), torch.inference_mode():
            return [probe.run(task, batch) for batch in moved]

    return Meter(task.network, run, trainer.strategy.root_device)


def _agreement(task: Task | None, own: Sequence[Any], other: Sequence[Any]) -> Agreement:
    """Compare answers; those of a classifier as probabilities."""
    assert task is not None
    first, second = ([task.class_probabilities(each) for each in answers] for answers in (own, other))
    if any(each is None for each in first):
        return agreement(own, other, classes=False)
    return agreement(first, second, classes=True)
