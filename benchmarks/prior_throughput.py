"""Throughput of the prior's training, in tables per second of CPU time and of the clock, on a CPU with Linux.

``python -m benchmarks.prior_throughput`` trains the configuration of the packaged weights for some steps in several
ways: tables drawn in the training process, or by a worker ahead of it; batches of tables of one size, or tables one by
one; float32, or bfloat16 autocast. Trainings alternate, so that other load of the machine affects all alike. CPU time
is that of the training process and its workers.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_least, publish
from tabattn.cli import CLI
from tabattn.contract.batches import TableBatch
from tabattn.contract.library_warnings import ordinary_runs

CONFIG = Path(__file__).parents[1] / "configs" / "prior_pretrain.yaml"
ALONE = ["--checkpoint.monitor=null", "--trainer.limit_val_batches=0", "--trainer.num_sanity_val_steps=0"]
ALONE += ["--trainer.accelerator=cpu", "--trainer.devices=1", "--data.batches.grow=0"]

WAYS: dict[str, list[str]] = {
    "one table in a batch, drawn in the training process": ["--data.num_workers=0", "--data.batch_size=1"],
    "batches of tables of one size, drawn in the training process": ["--data.num_workers=0"],
    "the same, drawn by a worker ahead": ["--data.num_workers=1"],
    "the same, in bfloat16": ["--data.num_workers=1", "--trainer.precision=bf16-mixed"],
}
"""Changes to the configuration. All see the tables of one stream of batches."""

WARM = 3
"""Steps before those that are measured."""


class Throughput(NamedTuple):
    """Tables per second, of CPU time and of the clock."""

    cpu: float
    clock: float


class Meter(Callback):
    """Times of a training's steps, after the first few."""

    def __init__(self) -> None:
        self.tables = 0
        self.begun: tuple[float, float] | None = None
        self.taken = (0.0, 0.0)

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, out: Any, batch: TableBatch, at: int) -> None:
        now = cpu_seconds(), time.perf_counter()
        if self.begun is not None:
            self.tables += len(batch.x)
            self.taken = now[0] - self.begun[0], now[1] - self.begun[1]
        elif trainer.global_step >= WARM:
            self.begun = now

    @property
    def throughput(self) -> Throughput:
        """Tables per second."""
        return Throughput(self.tables / self.taken[0], self.tables / self.taken[1])


def cpu_seconds() -> float:
    """CPU time of this process and its living workers, in seconds."""
    ticks = 0
    for child in multiprocessing.active_children():
        # The name, in parentheses, may hold spaces; user and system time are the 12th and 13th field after it.
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def measure(changes: Sequence[str], steps: int) -> Throughput:
    """Train for some steps after the first few."""
    meter = Meter()
    given = [f"--config={CONFIG}", *QUIET, *ALONE, f"--trainer.max_steps={WARM + steps}", *changes]
    cli = CLI(given, callbacks=[meter], run=False)
    with ordinary_runs(resumes=False):
        cli.trainer.fit(cli.model, cli.datamodule)
    return meter.throughput


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prior_throughput", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--steps", type=int, default=40, help="steps that are measured in a round (default: 40)")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each, of which the median counts")
    add_out(parser, "prior_throughput.md")
    options = parser.parse_args(argv)
    check_least(parser, options, steps=1, rounds=1)
    return options


def report(found: dict[str, list[Throughput]], options: argparse.Namespace) -> str:
    """Report in Markdown: medians over the rounds."""
    lines = ["| training | tables per CPU second | tables per second |", "| --- | ---: | ---: |"]
    for way, rounds in found.items():
        figures = [statistics.median(values) for values in zip(*rounds, strict=True)]
        lines.append(f"| {way} | {figures[0]:.1f} | {figures[1]:.1f} |")
    place = provenance(torch.device("cpu"))
    command = f"python -m benchmarks.prior_throughput --steps {options.steps} --rounds {options.rounds}"
    text = (
        f"Written by `{command}` on {place}.\n"
        f"Medians of {options.rounds} trainings of `configs/prior_pretrain.yaml`, of {options.steps} steps each after "
        f"{WARM} others; the curriculum is left out."
    )
    return "\n".join(["# Throughput of the prior's training on a CPU", "", text, "", *lines, ""])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write and print the report."""
    options = arguments(argv)
    torch.set_num_threads(1)
    found: dict[str, list[Throughput]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, changes in WAYS.items():
            found[way].append(measure(changes, options.steps * (8 if "--data.batch_size=1" in changes else 1)))
    text = report(found, options)
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
