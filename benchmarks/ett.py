"""Inference of one real sequence from another, against baselines: ``python -m benchmarks.ett <ETTh1.csv>``.

The table is ETTh1 of ETDataset (hourly loads and oil temperature of a transformer), which is no part of this project. A
window of 64 hours gives all values of the column HUFL and the first 16 of another column, whose other 48 are targets.
Networks are trained by ``configs/pairs_table.yaml``, for each pair of columns and each seed. Writes
<out>.md and <out>.csv. Further arguments go to the command line of each training, such as
``--trainer.max_steps=100``.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

import callbacks  # noqa: F401  (makes the names of the configuration known)
from benchmarks.ett_report import ENSEMBLE, OURS, report
from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_least, check_trainings, publish
from datamodules import TablePairs
from tabattn.contract.errors import DataError
from tabattn.tasks import PairInference
from tabattn.training.cli import CLI

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "pairs_table.yaml"
GIVEN = "HUFL"
INFERRED: dict[str, list[str]] = {
    "MUFL": ["--model.network.residual=parallel", "--model.network.centred=false", "--trainer.max_steps=1800"],
    "OT": [],
}
"""Columns to infer, and the changes of the configuration for each, which were chosen on hours before the test."""
PROTOCOL = [
    "--data.windows.length=64",
    "--data.windows.stride=16",
    "--data.context=[8,32]",
    "--data.evaluation.context=16",
]
PROTOCOL += ["--data.evaluation.shares=[0.7,0.1,0.2]"]
"""Arguments that must be the same in all trainings, so that scores are comparable."""
TABLE = ("--data.path", "--data.columns", "--data.windows.x")


class Task(NamedTuple):
    """Windows of a pair of columns, for methods without training.

    Attributes:
        given: The given column, ``(windows, rows)``.
        shown: Context of the other column, ``(windows, context rows)``.
        hidden: Targets of that column, ``(windows, target rows)``.
    """

    given: Tensor
    shown: Tensor
    hidden: Tensor


def centred(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each row, and the differences from it."""
    mean = values.mean(1, keepdim=True)
    return mean, values - mean


def last_value(task: Task) -> Tensor:
    """Baseline: the last context value."""
    return task.shown[:, -1:]


def context_mean(task: Task) -> Tensor:
    """Baseline: the mean of the context values."""
    return centred(task.shown)[0]


def offset(task: Task) -> Tensor:
    """Baseline: the given column plus the mean difference of the context values from it."""
    count = task.shown.shape[1]
    return task.given[:, count:] + (task.shown - task.given[:, :count]).mean(1, keepdim=True)


def ridge(task: Task) -> Tensor:
    """Baseline: ridge regression of the context values on the given column, with penalty 1."""
    count = task.shown.shape[1]
    mean, x = centred(task.given[:, :count])
    level, y = centred(task.shown)
    slope = (x * y).sum(1, keepdim=True) / (x.square().sum(1, keepdim=True) + 1)
    return level + slope * (task.given[:, count:] - mean)


NAIVE: dict[str, Callable[[Task], Tensor]] = {
    "zero": lambda task: torch.zeros(1),
    "last value": last_value,
    "mean of the context": context_mean,
    "given + mean offset": offset,
    "ridge on the context": ridge,
}
"""Predictions of the targets, broadcastable to their shape, by name."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ett",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("path", help="the file ETTh1.csv")
    parser.add_argument("--seeds", type=int, default=3, help="networks of each pair (default: 3)")
    add_out(parser, "ett.md", [".csv"])
    options, further = parser.parse_known_args(argv)
    options.further = check_trainings(parser, further, [*PROTOCOL, *TABLE, "--data.seed", *QUIET])
    check_least(parser, options, seeds=1)
    return options


def build(options: argparse.Namespace, inferred: str, seed: int) -> CLI:
    """Build the network, the windows and the trainer of a run."""
    table = (options.path, f"[{GIVEN},{inferred}]", "date")
    data = [f"{name}={value}" for name, value in zip(TABLE, table, strict=True)]
    seeds = [f"--data.seed={seed}", f"--seed_everything={seed}"]
    return CLI(
        [f"--config={CONFIG}", *data, *seeds, *QUIET, *INFERRED[inferred], *options.further, *PROTOCOL], run=False
    )


def windows(data: TablePairs) -> Task:
    """Test windows."""
    batches = data.batches("test")
    parts = [batches[index] for index in range(len(batches))]
    y, context = torch.cat([part.y for part in parts]), parts[0].context
    rows = y.shape[1] // 2
    return Task(y[:, :rows], y[:, rows:context], y[:, context:])


def scores(options: argparse.Namespace, inferred: str) -> list[dict[str, object]]:
    """Scores: a row for each method and seed."""
    lines: list[dict[str, object]] = []
    predicted: list[Tensor] = []
    for seed in range(options.seeds):
        cli = build(options, inferred, seed)
        task, data = cli.model, cli.datamodule
        assert isinstance(task, PairInference)
        assert isinstance(data, TablePairs)
        if not seed:
            known = windows(data)
            for name, predict in NAIVE.items():
                mse = float((predict(known) - known.hidden).square().mean())
                lines.append({"pair": f"{GIVEN}->{inferred}", "method": name, "windows": len(known.given), "mse": mse})
        start = time.perf_counter()
        cli.trainer.fit(task, data)
        seconds = time.perf_counter() - start
        found = cli.trainer.test(task, data, verbose=False)[0]
        figures = {name: found[f"test/{name}"] for name in ("mse", "ll", "crps", "rmse_first")}
        figures["val_mse"] = cli.trainer.validate(task, data, verbose=False)[0]["val/mse"]
        lines.append({**lines[0], "method": OURS, "seed": seed, **figures, "seconds": seconds})
        predicted.append(means(task, data))
        sys.stderr.write(f"{GIVEN}->{inferred}, seed {seed}: MSE {figures['mse']:.4f} ({seconds:.0f} s)\n")
    mse = float((torch.stack(predicted).mean(0) - known.hidden).square().mean())
    return [*lines, {**lines[0], "method": ENSEMBLE, "mse": mse}]


@torch.no_grad()
def means(task: PairInference, data: TablePairs) -> Tensor:
    """Predicted means of a network in all test windows, ``(windows, target rows)``."""
    batches = data.batches("test")
    return torch.cat([task.eval().cpu()(batches[index]).mean for index in range(len(batches))])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison; write and print the report."""
    options = arguments(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        for inferred in INFERRED:  # Build every run once, so that errors show before the trainings.
            build(options, inferred, 0)
        found = pd.DataFrame([line for inferred in INFERRED for line in scores(options, inferred)])
    except (DataError, ValueError) as ex:
        sys.stderr.write(f"error: {ex}\n")
        raise SystemExit(2 if isinstance(ex, ValueError) else 3) from None
    text = report(found, provenance(torch.device("cpu")), INFERRED, options.further)
    publish(text, options.out)
    found.to_csv(options.out.with_suffix(".csv"), index=False, float_format="%.6g")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
