"""Drop of the prediction after the last context point, with and without its causes: ``python -m benchmarks.drop``.

Trains networks by ``configs/pairs.yaml`` with and without three causes of the drop: attention that cannot tell the
members apart, training on gap filling only, and means that are not predicted as differences from the sequence's last
value. Two networks differ only in the encoding of the member, which isolates its effect. All infer the same test tasks;
the picture shows those of the first batch whose sequences are farthest apart, where a drop is easiest to see. Further
arguments go to the command line of each training, such as ``--trainer.accelerator=gpu``.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import datamodules  # noqa: F401  (makes the names of the configuration known)
from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_least, check_trainings, publish
from callbacks.curves import Task, draw_task, legend, sheet, task_of
from tabattn.contract.batches import PairBatch
from tabattn.pairs import InferenceOptions, Trajectories, lay_out, trajectories
from tabattn.tasks import PairInference
from tabattn.training.cli import CLI

CONFIG = Path(__file__).parents[1] / "configs" / "pairs.yaml"
FILLING = [
    "--data.regime=shuffle",
    "--data.context=[8,16]",
    "--data.evaluation.context=8",
    "--model.network.residual=none",
]
"""Arguments of training on random context points of both sequences, as many as in the tests."""
VARIANTS = {
    "first network: attends to places": ["--model.network=SeedNetwork", *FILLING],
    "labels hidden from attention": ["--model.network.tokens.member_embed=hidden", *FILLING],
    "labels told": FILLING,
    "labels, forecasts and nearest value": [],
}
"""Changes of the configuration, by the name of the network."""
DISTINCT = ("--model.network", "--model.network.residual", "--model.network.tokens.member_embed", "--data.regime")
"""Arguments by which the networks differ; further arguments must not set them."""
UNWATCHED = [*QUIET, "--trainer.limit_val_batches=0"]
FIGURES = ("rmse_first", "mse", "ll")
WIDTH = 3.6
"""Width of a panel in inches, so that all panels of a row fit on a page."""


class Run(NamedTuple):
    """Result of one network.

    Attributes:
        figures: Scores on all test tasks.
        found: Inferred trajectories of the tasks in the picture.
    """

    figures: dict[str, float]
    found: Trajectories


def build(changes: Sequence[str], options: argparse.Namespace) -> CLI:
    """Build a network, the tasks and the trainer."""
    own = [f"--config={CONFIG}", f"--seed_everything={options.seed}", f"--trainer.max_steps={options.steps}"]
    return CLI([*own, *UNWATCHED, *changes, *options.further], run=False)


def train(changes: Sequence[str], options: argparse.Namespace) -> Run:
    """Train and score a network, and infer the tasks of the picture."""
    cli = build(changes, options)
    task, data = cli.model, cli.datamodule
    assert isinstance(task, PairInference)
    cli.trainer.fit(task, data)
    figures = cli.trainer.test(task, data, verbose=False)[0]
    asked = InferenceOptions(samples=options.samples)
    batch = lay_out(apart(next(iter(data.test_dataloader())), options.tasks), asked)
    source = torch.Generator().manual_seed(options.seed)
    return Run(dict(figures), trajectories(task.eval().cpu().network, batch, asked, source))


def apart(batch: PairBatch, count: int) -> PairBatch:
    """Indices of the tasks of a batch whose two sequences are farthest apart on average."""
    black, red = (torch.where(batch.member == number, batch.y, torch.nan).nanmean(1) for number in (0, 1))
    chosen = (black - red).abs().argsort(descending=True)[:count]
    return PairBatch(batch.x[chosen], batch.y[chosen], batch.member[chosen], batch.context)


def draw(runs: dict[str, Run], path: Path, tasks: int) -> None:
    """Plot the networks side by side, a task in each row, with a common y axis."""
    figure, panels = sheet(len(runs) * tasks, "", across=len(runs))
    figure.set_figwidth(WIDTH * len(runs))
    figure.subplots_adjust(left=0.035, right=0.99)
    drawn: list[Task] = []
    for number in range(tasks):
        row = panels[number * len(runs) : (number + 1) * len(runs)]
        for axes, (name, run) in zip(row, runs.items(), strict=True):
            drawn.append(task_of(run.found, number))
            draw_task(axes, drawn[-1])
            if not number:
                axes.set_title(f"{name}\nfirst prediction off by {run.figures['test/rmse_first']:.2f}", fontsize=9)
        ends = [axes.get_ylim() for axes in row]
        for axes in row:
            axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    legend(figure, drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def report(runs: dict[str, Run], options: argparse.Namespace) -> str:
    """Report of the scores in Markdown."""
    lines = [f"| network | {' | '.join(FIGURES)} |", "| --- |" + " ---: |" * len(FIGURES)]
    exact = {figure: run.figures.get(f"test/{figure}_oracle") for run in runs.values() for figure in FIGURES}
    rows = {name: {figure: run.figures[f"test/{figure}"] for figure in FIGURES} for name, run in runs.items()}
    for name, row in {**rows, "exact predictive density": exact}.items():
        cells = ["" if value is None else f"{value:.3f}" for value in row.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text = (
        f"{options.steps} steps of `configs/pairs.yaml` each. Test tasks are forecasts of 16 points of a sequence from "
        "8 points of its own and 24 points of another sequence with another offset. `rmse_first`: error of the first "
        "target, the drop; `ll`: log-likelihood of a target in nats. All but the last are trained to fill gaps in both "
        "sequences, without residual; the second and the third differ only in the encoding of the member (the label). "
        "The last, as configured, is also trained on forecasts, with the residual `nearest`."
    )
    picture = f"![the networks on the same tasks]({options.out.name})"
    head = ["# The sharp drop", "", "`python -m benchmarks.drop`", "", f"{provenance(device)}.", "", text]
    return "\n".join([*head, "", *lines, "", picture, ""])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--steps", type=int, default=2000, help="training steps of each network (default: 2000)")
    parser.add_argument("--tasks", type=int, default=2, help="tasks in the picture (default: 2)")
    parser.add_argument("--samples", type=int, default=10, help="trajectories of each task (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the networks (default: 0)")
    add_out(parser, "drop.png", [".md"])
    options, further = parser.parse_known_args(argv)
    options.further = check_trainings(parser, further, [*DISTINCT, "--trainer.max_steps", *UNWATCHED])
    check_least(parser, options, steps=1, tasks=1, samples=1, seed=0)
    return options


def check(options: argparse.Namespace) -> None:
    """Build every network once, so that errors show before the trainings.

    Raises:
        SystemExit: An argument is wrong, or the test batch has fewer tasks than the picture needs.
    """
    for changes in VARIANTS.values():
        tasks = len(next(iter(build(changes, options).datamodule.test_dataloader())).x)
        if options.tasks > tasks:
            raise SystemExit(f"error: tasks must be at most {tasks}, the batch of test tasks, got {options.tasks}")


def main(argv: Sequence[str] | None = None) -> None:
    """Train every network; write the picture and the report."""
    options = arguments(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    check(options)
    runs = {}
    for name, changes in VARIANTS.items():
        runs[name] = train(changes, options)
        sys.stderr.write(f"{name}: {runs[name].figures['test/rmse_first']:.3f}\n")
    text = report(runs, options)
    draw(runs, options.out, options.tasks)
    publish(text, options.out.with_suffix(".md"))
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
