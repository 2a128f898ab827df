"""Lookup of duplicates by attention between rows, and intervention on them: ``python -m benchmarks.lookup``.

Kossen et al. 2021 (arXiv 2106.02584), section 4.3, on any table with a numeric target. Every batch holds a copy of its
rows with nothing hidden, so a network that compares rows can copy the target from there. Trained by
``configs/experiments/reconstruction_lookup.yaml``; by the first seed, where copies are as they are, also without
attention between rows. Intervention: the target of each test row's copy is set to values from -2 to 2 standard
deviations; the prediction must follow.
Further arguments go to the command line of each training, such as ``--data.table=my.csv``.
"""

import argparse
import itertools
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor

from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_least, check_trainings, publish
from datamodules.reconstruction.batches import Cells
from datamodules.reconstruction.splits import TEST, TRAIN
from tabattn.attention import Mechanism
from tabattn.contract.cells import CellBatch
from tabattn.tasks import TableReconstruction
from tabattn.training.cli import CLI

CONFIG = Path(__file__).parents[1] / "configs" / "experiments" / "reconstruction_lookup.yaml"
VARIANTS = {
    "copies as they are": [],
    "last 3 features random": ["--data.context.lookup.random=3"],
    "target + 1 std": ["--data.context.lookup.added=1"],
    "both": ["--data.context.lookup.random=3", "--data.context.lookup.added=1"],
}
"""Changes of the configuration, by the name of the variant."""
ALONE = ("--model.attention=benchmarks.lookup.NoMixing", "--allow=benchmarks")
TAKEN = ("--model.attention", "--data.context.lookup.random", "--data.context.lookup.added", "--trainer.max_steps")
"""Arguments that this program sets; further arguments must not."""
SWEEP = torch.linspace(-2.0, 2.0, 9)
"""Values of the copies' targets in the intervention, in standard deviations from the mean."""


class NoMixing(Mechanism):
    """No attention: the mixed values are zeros, so that tokens do not read one another.

    Cost: none.
    Exactness: exact.
    Source: the ablation of Kossen et al. 2021 (arXiv 2106.02584), section 4.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return v.new_zeros(*q.shape[:3], v.shape[-1])


class Looked(NamedTuple):
    """Result of one training.

    Attributes:
        rmse: Root mean squared test error, in the target's units.
        alone: The same without attention between rows; NaN = not measured.
        boosting: The same of gradient boosting on the training rows.
        nearest: The same of the nearest row among those a prediction may see, the copies of test rows included.
        std: Standard deviation of the target in the test rows.
        correlation: Correlation between the values that copies were set to and the predictions; 0 = these are constant.
        moved: Slope of the predictions by these values.
        minutes: Computing time of the training.
    """

    rmse: float
    alone: float
    boosting: float
    nearest: float
    std: float
    correlation: float
    moved: float
    minutes: float


def build(changes: Sequence[str], seed: int, options: argparse.Namespace) -> CLI:
    """Build a network, the table and the trainer."""
    own = [f"--config={CONFIG}", f"--seed_everything={seed}", "--trainer.limit_val_batches=0"]
    own += [] if options.steps is None else [f"--trainer.max_steps={options.steps}"]
    return CLI([*own, *QUIET, *changes, *options.further], run=False)


def train(changes: Sequence[str], seed: int, options: argparse.Namespace) -> tuple[CLI, float]:
    """Train a network, and return its root mean squared test error in the target's units."""
    cli = build(changes, seed, options)
    cli.trainer.fit(cli.model, cli.datamodule)
    return cli, float(cli.trainer.test(cli.model, cli.datamodule, verbose=False)[0]["test/rmse"])


def look_up(changes: Sequence[str], seed: int, options: argparse.Namespace) -> Looked:
    """Train a variant, the one without changes by the first seed also without attention between rows, and compare."""
    begin = time.process_time()
    cli, rmse = train(changes, seed, options)
    minutes = (time.process_time() - begin) / 60
    alone = float("nan") if changes or seed != options.seeds[0] else train(ALONE, seed, options)[1]
    task = cli.model
    assert isinstance(task, TableReconstruction)
    batches = list(cli.datamodule.test_dataloader())
    place, scale = numeric_target(task)
    truth = torch.cat([batch.truth[0, batch.context :, place] for batch in batches])
    values, predicted = intervene(task, batches, place)
    correlation, slope = followed(values, predicted)
    boosting = boosted(cli.datamodule.cells, place)
    std = scale * float(truth.std(correction=0))
    return Looked(rmse, alone, scale * boosting, scale * nearest(batches, place), std, correlation, slope, minutes)


def numeric_target(task: TableReconstruction) -> tuple[int, float]:
    """Place and standard deviation of the target column.

    Raises:
        SystemExit: The table has another number of targets than one, or a categorical one.
    """
    targets = [(place, column) for place, column in enumerate(task.columns) if column.target]
    if len(targets) != 1 or targets[0][1].categories:
        raise SystemExit("the lookup is measured on a table with one numeric target: choose it by --data.target=")
    return targets[0][0], targets[0][1].std


@torch.inference_mode()
def intervene(task: TableReconstruction, batches: Sequence[CellBatch], place: int) -> tuple[NDArray, NDArray]:
    """Set the targets of the test rows' copies, and predict the rows.

    Args:
        task: Trained task.
        batches: Test batches, with copies.
        place: Place of the target column.

    Returns:
        The values that copies were set to and the predictions, standardised, each ``(values * rows,)``.
    """
    task.eval()
    values, found = [], []
    index = task.network.kinds.numeric.index(place)
    for batch in batches:
        asked = batch.row[:1, batch.context :]
        for value in SWEEP.tolist():
            x = batch.x.clone()
            copies = torch.isin(batch.row, asked)
            copies[:, batch.context :] = False
            x[..., place] = torch.where(copies, value, x[..., place])
            mean = task(batch._replace(x=x)).mean[:, batch.context :, index].mean(0)
            found.append(mean.numpy())
            values.append(np.full(len(found[-1]), value))
    return np.concatenate(values), np.concatenate(found)


def followed(values: NDArray, predicted: NDArray) -> tuple[float, float]:
    """Correlation of predictions with the values that copies were set to, 0 if they are constant, and their slope."""
    correlation = float(np.corrcoef(values, predicted)[0, 1]) if predicted.std() > 0 else 0.0
    return correlation, float(np.polyfit(values, predicted, 1)[0])


def nearest(batches: Sequence[CellBatch], place: int) -> float:
    """Root mean squared error, standardised, of the target of the context row with the nearest features."""
    errors = []
    for batch in batches:
        features = [each for each in range(batch.x.shape[2]) if each != place]
        x, y = batch.x[0].numpy(), batch.truth[0].numpy()
        model = KNeighborsRegressor(1).fit(x[: batch.context][:, features], x[: batch.context, place])
        errors.append(model.predict(x[batch.context :][:, features]) - y[batch.context :, place])
    return float(np.sqrt(np.square(np.concatenate(errors)).mean()))


def boosted(cells: Cells, place: int) -> float:
    """Root mean squared test error, standardised, of histogram gradient boosting on the training rows."""
    truth = cells.truth.numpy()
    x = np.delete(truth, place, axis=1)
    train, test = cells.of(TRAIN).numpy(), cells.of(TEST).numpy()
    test = test[~np.isnan(truth[test, place])]
    model = HistGradientBoostingRegressor(random_state=0).fit(x[train], truth[train, place])
    return float(np.sqrt(np.square(model.predict(x[test]) - truth[test, place]).mean()))


def report(found: dict[tuple[str, int], Looked], options: argparse.Namespace) -> str:
    """Report in Markdown."""
    heads = ["copies", "seed", "RMSE", "without attention between rows", "gradient boosting", "nearest row"]
    heads += ["std of the target", "correlation under intervention", "slope", "CPU minutes"]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for (name, seed), run in found.items():
        cells = [f"{value:.3g}" if value == value else "" for value in run[:5]]
        cells += [f"{run.correlation:.4f}", f"{run.moved:.3f}", f"{run.minutes:.1f}"]
        lines.append(f"| {name} | {seed} | {' | '.join(cells)} |")
    steps = [] if options.steps is None else [f"--steps {options.steps}"]
    command = " ".join([*steps, f"--seeds {' '.join(map(str, options.seeds))}", *options.further])
    text = (
        "Networks trained by `configs/experiments/reconstruction_lookup.yaml`. Test errors in the target's units. "
        "Every batch holds a copy of its rows with nothing hidden. Gradient boosting sees no copies; "
        "the nearest row is sought among the rows that a prediction may attend to, the copies included. Intervention: "
        f"the target of each test row's copy is set to {len(SWEEP)} values from -2 to 2 standard deviations."
    )
    head = ["# Lookup of duplicates", "", f"`python -m benchmarks.lookup {command}`", ""]
    return "\n".join([*head, f"{provenance(torch.device('cpu'))}.", "", text, "", *lines, ""])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lookup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--steps", type=int, help="training steps of each network (default: as configured)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the networks (default: 0 1)")
    add_out(parser, "lookup.md", [".csv"])
    options, further = parser.parse_known_args(argv)
    options.further = check_trainings(parser, further, [*TAKEN, *QUIET])
    check_least(parser, options, steps=1, seeds=0)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train every variant; write and print the report."""
    options = arguments(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for name in options.variants:  # Errors show before the trainings.
        cli = build(VARIANTS[name], options.seeds[0], options)
        cli.model.check_data(cli.datamodule)
        numeric_target(cli.model)
    found = {}
    for name, seed in itertools.product(options.variants, options.seeds):
        found[name, seed] = look_up(VARIANTS[name], seed, options)
        sys.stderr.write(f"{name}, seed {seed}: {found[name, seed]}\n")
        lines = [{"copies": name, "seed": seed, **run._asdict()} for (name, seed), run in found.items()]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(lines).to_csv(options.out.with_suffix(".csv"), index=False)
        publish(report(found, options), options.out)
    sys.stdout.write(report(found, options))


if __name__ == "__main__":
    main()
