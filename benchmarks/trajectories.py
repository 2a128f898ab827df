"""Error of trajectories against that of a single pass, by the size of the task: ``python -m benchmarks.trajectories``.

For each number of points, a network is trained by ``configs/pairs.yaml`` on pairs of ``rbf_const_2D`` with a quarter of
the points as context. It predicts test tasks in a single pass, along the mean trajectory, and along a sampled one. It
also predicts the last quarter of the targets in a single pass with more true points as context, with which the error
must not grow. ``--before`` adds networks that are trained with the scored number of context points only.
Further arguments go to the command line of each training, such as ``--trainer.accelerator=gpu``.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

import datamodules  # noqa: F401  (makes the names of the configuration known)
from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_least, check_trainings, publish
from callbacks.curves import draw_task, label, legend, sheet, task_of
from datamodules import SyntheticPairs
from tabattn.contract.batches import PairBatch
from tabattn.pairs import InferenceOptions, Trajectories, trajectories
from tabattn.pairs.network import PairNetwork
from tabattn.tasks import PairInference
from tabattn.training.cli import CLI

CONFIG = Path(__file__).parents[1] / "configs" / "pairs.yaml"
TASKS = ("--data.kind", "--data.points", "--data.context", "--data.evaluation.test_batches")
UNWATCHED = [*QUIET, "--trainer.limit_val_batches=0"]
WAYS = ("one pass", "mean trajectory", "first sample")


RESAMPLES = 200
"""Resamples of the bootstrap."""


class Estimate(NamedTuple):
    """Estimate and its standard error over test tasks."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.error:.2f}"


class Measured(NamedTuple):
    """Results of one network.

    Attributes:
        points: Points of each sequence.
        training: Sizes of the context in training.
        errors: Squared error of each target by ``WAYS``, ``(3, tasks, targets)``.
        known: Mean squared error of the last quarter of each task's points, ``(tasks,)``, by size of the context.
        first: Root mean squared error of the first target, the drop.
        minutes: CPU time of the training.
        found: Trajectories of the first batch.
    """

    points: int
    training: str
    errors: Tensor
    known: dict[int, Tensor]
    first: float
    minutes: float
    found: Trajectories

    def medians(self, tasks: Tensor | slice = slice(None)) -> Tensor:
        """Median over tasks, or some of them, of the root mean squared error, by ``WAYS``."""
        return self.errors[:, tasks].mean(2).sqrt().median(1).values

    def ratios(self) -> list[Estimate]:
        """Ratios of the median error of the mean and the sampled trajectory to that of a single pass."""

        def ratio(way: int, tasks: Tensor) -> float:
            once, *others = self.medians(tasks).tolist()
            return others[way] / once

        return [estimate(partial(ratio, way), self.errors.shape[1]) for way in range(len(WAYS) - 1)]

    def by_known(self, tasks: Tensor | slice = slice(None)) -> list[float]:
        """Median over tasks, or some of them, of the root mean squared error in ``known``."""
        return [float(error[tasks].sqrt().median()) for error in self.known.values()]

    def gains(self) -> list[Estimate]:
        """Ratios of the median error with larger contexts to that with the smallest."""

        def ratio(more: int, tasks: Tensor) -> float:
            first, *others = self.by_known(tasks)
            return others[more] / first

        return [estimate(partial(ratio, more), len(self.errors[0])) for more in range(len(self.known) - 1)]


def estimate(statistic: Callable[[Tensor], float], tasks: int) -> Estimate:
    """Estimate a statistic over tasks, with its bootstrap standard error.

    Args:
        statistic: Function of task indices, ``(tasks,)``.
        tasks: Number of tasks.
    """
    source = torch.Generator().manual_seed(0)
    again = [statistic(torch.randint(tasks, (tasks,), generator=source)) for _ in range(RESAMPLES)]
    return Estimate(statistic(torch.arange(tasks)), float(torch.tensor(again).std()))


def build(points: int, training: str, options: argparse.Namespace) -> CLI:
    """Build a network, the tasks and the trainer."""
    shown = points // 4
    own = [f"--config={CONFIG}", f"--seed_everything={options.seed}", f"--trainer.max_steps={options.steps}"]
    context = f"[{shown},{shown}]" if training == "one size" else f"{shown}"
    tasks = ("rbf_const_2D", f"[{points},{points}]", context, options.batches)
    own += [f"{name}={value}" for name, value in zip(TASKS, tasks, strict=True)]
    return CLI([*own, *UNWATCHED, *options.further], run=False)


def train(points: int, training: str, options: argparse.Namespace) -> Measured:
    """Train a network, and measure it on the test tasks."""
    cli = build(points, training, options)
    task, data = cli.model, cli.datamodule
    assert isinstance(task, PairInference)
    assert isinstance(data, SyntheticPairs)
    start = time.process_time()
    cli.trainer.fit(task, data)
    minutes = (time.process_time() - start) / 60
    network = task.eval().cpu().network
    batches = list(data.test_dataloader())
    errors, found = walk(network, batches, options.seed)
    first = float(errors[0, :, 0].mean().sqrt())
    return Measured(points, training, errors, by_known(network, batches, points), first, minutes, found)


@torch.no_grad()
def walk(network: PairNetwork, batches: Sequence[PairBatch], seed: int) -> tuple[Tensor, Trajectories]:
    """Squared errors of targets by ``WAYS``, ``(3, tasks, targets)``, and the trajectories of the first batch."""
    errors, drawn = [], []
    for number, batch in enumerate(batches):
        source = torch.Generator().manual_seed(seed + number)
        found = trajectories(network, batch, InferenceOptions(samples=1), source)
        assert found.mean is not None
        once = network(batch.x, batch.y, batch.member, batch.context).mean
        errors.append((torch.stack([once, found.mean, found.samples[0]]) - batch.y[:, batch.context :]).square())
        drawn.append(found)
    return torch.cat(errors, 1), drawn[0]


@torch.no_grad()
def by_known(network: PairNetwork, batches: Sequence[PairBatch], points: int) -> dict[int, Tensor]:
    """Mean squared error of the last quarter of each task's points, ``(tasks,)``, by size of the context."""
    last = points // 4
    errors = {}
    for known in (points // 4, points // 2, points - last):
        given = [network(batch.x, batch.y, batch.member, points + known).mean[:, -last:] for batch in batches]
        off = torch.cat(given) - torch.cat([batch.y[:, -last:] for batch in batches])
        errors[known] = off.square().mean(1)
    return errors


def draw(runs: Sequence[Measured], path: Path) -> None:
    """Plot, for each network, the median error of each target by ``WAYS``, and one task."""
    figure, panels = sheet(2 * len(runs), "", across=2)
    drawn = []
    for number, run in enumerate(runs):
        by_target, example = panels[2 * number], panels[2 * number + 1]
        for name, error in zip(WAYS, run.errors.median(1).values.sqrt(), strict=True):
            by_target.plot(range(1, len(error) + 1), error, label=name, linewidth=1)
        by_target.set_yscale("log")
        by_target.xaxis.set_major_locator(MaxNLocator(integer=True))
        by_target.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        by_target.yaxis.set_major_formatter("{x:g}")
        by_target.yaxis.set_minor_formatter(NullFormatter())
        by_target.set_title(f"{run.points} points, trained with {run.training}", fontsize=9)
        label(by_target, "target, in the order of prediction", "median absolute error, in units of y")
        by_target.legend(fontsize=7)
        drawn.append(task_of(run.found, 0))
        draw_task(example, drawn[-1])
    legend(figure, drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def report(runs: Sequence[Measured], options: argparse.Namespace) -> str:
    """Report of the errors in Markdown."""
    heads = ["points", "trained with", *WAYS, "ratios", "worst mean trajectory", "drop", "by true points known"]
    heads += ["the same, root mean square", "minutes"]
    lines = [f"| {' | '.join(heads)} |", "| ---: | --- |" + " ---: |" * (len(heads) - 2)]
    for run in runs:
        worst = run.errors[1].mean(1).max().sqrt()
        known = [f"{count}: {error:.3f}" for count, error in zip(run.known, run.by_known(), strict=True)]
        known[1:] = [f"{error} ({gain})" for error, gain in zip(known[1:], run.gains(), strict=True)]
        mean = ", ".join(f"{float(error.mean().sqrt()):.3f}" for error in run.known.values())
        cells = [f"{run.points} + {run.points}", run.training, *(f"{error:.3f}" for error in run.medians().tolist())]
        cells += [", ".join(map(str, run.ratios())), f"{worst:.2f}", f"{run.first:.3f}", ", ".join(known), mean]
        lines.append(f"| {' | '.join([*cells, f'{run.minutes:.1f}'])} |")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    further = "".join(f" {word}" for word in options.further)
    text = (
        f"{options.steps} steps of `configs/pairs.yaml` with `--data.kind=rbf_const_2D` for each number of points, a "
        "quarter of those of the second sequence shown; the rest is inferred in one pass, and point after point: each "
        "prediction from those before it, by means or by values drawn. Medians over tasks of the root mean squared "
        "error, and the ratios of trajectories to one pass; a calibrated sample has 1.41. `drop`: error of the first "
        "prediction. The last quarter of the sequence in one pass by how many true points are known: the median, in "
        "brackets its ratio to that with the fewest, which must not be above 1, and the root mean square, of "
        f"which few tasks make most. Behind ± are standard errors over the test tasks of {options.batches} batches "
        "(bootstrap). Minutes are those computed in training, the drawing of tasks included."
    )
    command = f"`python -m benchmarks.trajectories --steps {options.steps}{further}`"
    picture = f"![errors along trajectories]({options.out.name})"
    head = ["# Trajectories beside one pass", "", command, "", f"{provenance(device)}.", "", text]
    return "\n".join([*head, "", *lines, "", picture, ""])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trajectories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--points", type=int, nargs="+", default=[24, 100, 200], help="points of each sequence")
    parser.add_argument("--steps", type=int, default=2000, help="training steps of each network (default: 2000)")
    parser.add_argument("--batches", type=int, default=4, help="test batches of 32 tasks (default: 4)")
    parser.add_argument("--before", action="store_true", help="also train with the scored number of points alone")
    parser.add_argument("--seed", type=int, default=0, help="seed of the networks (default: 0)")
    add_out(parser, "trajectories.png", [".md"])
    options, further = parser.parse_known_args(argv)
    options.further = check_trainings(parser, further, [*TASKS, "--trainer.max_steps", *UNWATCHED])
    check_least(parser, options, points=4, steps=1, batches=1, seed=0)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train every network; write the picture and the report."""
    options = arguments(argv)
    trainings = ("every size", *(["one size"] if options.before else []))
    for points in options.points:  # Build every network once, so that errors show before the trainings.
        for training in trainings:
            build(points, training, options)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    runs = []
    for points in options.points:
        for training in trainings:
            runs.append(train(points, training, options))
            sys.stderr.write(f"{points} points, {training}: {runs[-1].medians().tolist()}\n")
    text = report(runs, options)
    draw(runs, options.out)
    publish(text, options.out.with_suffix(".md"))
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
