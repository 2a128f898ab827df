"""Error of trajectories beside that of one pass, by the size of the task: ``python -m benchmarks.trajectories``.

A network is trained as ``configs/pairs.yaml`` says for each number of points, on the first such system's pairs
(``rbf_const_2D``, a quarter of the points shown), and infers test tasks in one pass and point after point: by its
means, and by one drawn trajectory. It is also given more true points, in one pass: the error of the same last quarter
of the targets must not grow. ``--before`` adds networks that are trained with the scored number of points alone.
Further arguments go to the command line of each training, such as ``--trainer.accelerator=gpu``.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import datamodules  # noqa: F401  (makes the names of the configuration known)
from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_least, check_trainings, publish
from callbacks.curves import draw_task, legend, sheet, task_of
from datamodules import SyntheticPairs
from tabattn.contract.batches import PairBatch
from tabattn.pairs import InferenceOptions, Trajectories, trajectories
from tabattn.pairs.network import PairNetwork
from tabattn.tasks import PairInference
from tabattn.training.cli import CLI

CONFIG = Path(__file__).parents[1] / "configs" / "pairs.yaml"
TASKS = ("--data.kind", "--data.points", "--data.context", "--data.test_batches")
UNWATCHED = [*QUIET, "--trainer.limit_val_batches=0"]
WAYS = ("one pass", "mean trajectory", "first sample")


class Measured(NamedTuple):
    """What became of one network.

    Attributes:
        points: Points of each sequence.
        training: What training was shown.
        errors: Squared error of each target by ``WAYS``, ``(3, tasks, targets)``.
        known: Root mean squared error of the last quarter of the points by how many are known.
        first: Root mean squared error of the first target, the size of the drop.
        minutes: Processor time of the training.
        found: Trajectories of the first batch.
    """

    points: int
    training: str
    errors: Tensor
    known: dict[int, float]
    first: float
    minutes: float
    found: Trajectories

    def medians(self) -> list[float]:
        """Median over tasks of the root mean squared error, by ``WAYS``."""
        return self.errors.mean(2).sqrt().median(1).values.tolist()


def build(points: int, training: str, options: argparse.Namespace) -> CLI:
    """Build a network, the tasks and the trainer."""
    shown = points // 4
    own = [f"--config={CONFIG}", f"--seed_everything={options.seed}", f"--trainer.max_steps={options.steps}"]
    context = f"[{shown},{shown}]" if training == "one size" else f"{shown}"
    tasks = ("rbf_const_2D", f"[{points},{points}]", context, options.batches)
    own += [f"{name}={value}" for name, value in zip(TASKS, tasks, strict=True)]
    return CLI([*own, *UNWATCHED, *options.further], run=False)


def train(points: int, training: str, options: argparse.Namespace) -> Measured:
    """Train a network and let it infer the first test tasks."""
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
def by_known(network: PairNetwork, batches: Sequence[PairBatch], points: int) -> dict[int, float]:
    """Root mean squared error of the last quarter of a sequence's points, by how many true ones before are known."""
    last = points // 4
    errors = {}
    for known in (points // 4, points // 2, points - last):
        given = [network(batch.x, batch.y, batch.member, points + known).mean[:, -last:] for batch in batches]
        off = torch.cat(given) - torch.cat([batch.y[:, -last:] for batch in batches])
        errors[known] = float(off.square().mean().sqrt())
    return errors


def draw(runs: Sequence[Measured], path: Path) -> None:
    """Draw, for each network, the median error of each target by the ways to predict it, and one task."""
    figure, panels = sheet(2 * len(runs), "", across=2)
    drawn = []
    for number, run in enumerate(runs):
        by_target, example = panels[2 * number], panels[2 * number + 1]
        for name, error in zip(WAYS, run.errors.median(1).values.sqrt(), strict=True):
            by_target.plot(range(1, len(error) + 1), error, label=name, linewidth=1)
        by_target.set_yscale("log")
        by_target.set_title(f"{run.points} points, trained with {run.training}: median error by target", fontsize=9)
        by_target.legend(fontsize=7)
        drawn.append(task_of(run.found, 0))
        draw_task(example, drawn[-1])
    legend(figure, drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def report(runs: Sequence[Measured], options: argparse.Namespace) -> str:
    """The errors in Markdown."""
    heads = ["points", "trained with", *WAYS, "ratios", "worst mean trajectory", "drop", "by true points known"]
    heads += ["minutes"]
    lines = [f"| {' | '.join(heads)} |", "| ---: | --- |" + " ---: |" * (len(heads) - 2)]
    for run in runs:
        once, *others = medians = run.medians()
        worst = run.errors[1].mean(1).max().sqrt()
        known = ", ".join(f"{count}: {error:.3f}" for count, error in run.known.items())
        cells = [f"{run.points} + {run.points}", run.training, *(f"{error:.3f}" for error in medians)]
        cells += [", ".join(f"{error / once:.2f}" for error in others), f"{worst:.2f}", f"{run.first:.3f}", known]
        lines.append(f"| {' | '.join([*cells, f'{run.minutes:.1f}'])} |")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    further = "".join(f" {word}" for word in options.further)
    text = (
        f"{options.steps} steps of `configs/pairs.yaml` with `--data.kind=rbf_const_2D` for each number of points, a "
        "quarter of those of the second sequence shown; the rest is inferred in one pass, and point after point: each "
        "prediction from those before it, by means or by values drawn. Medians over tasks of the root mean squared "
        "error, and the ratios of trajectories to one pass; a calibrated sample has 1.41. `drop`: error of the first "
        "prediction. The last quarter of the sequence in one pass by how many true points are known: more must not be "
        "worse. Minutes are those computed in training, the drawing of tasks included."
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
    """Train every network, draw what becomes of its errors and write the report."""
    options = arguments(argv)
    trainings = ("every size", *(["one size"] if options.before else []))
    for points in options.points:  # No mistake waits for the trainings before it.
        for training in trainings:
            build(points, training, options)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    runs = []
    for points in options.points:
        for training in trainings:
            runs.append(train(points, training, options))
            sys.stderr.write(f"{points} points, {training}: {runs[-1].medians()}\n")
    text = report(runs, options)
    draw(runs, options.out)
    publish(text, options.out.with_suffix(".md"))
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
