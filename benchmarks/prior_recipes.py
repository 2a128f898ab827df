"""Recipes of the prior task at equal CPU time: ``python -m benchmarks.prior_recipes --tables <folder>``.

A recipe is a prior, and a structure of the network. Each is trained for the same CPU time of one process, in which
drawing tables counts too, with a learning rate that falls to zero; then it is scored as in ``benchmarks.openml``, with
fewer folds and ensemble members. Trainings from nothing begin with small tables, whose sizes grow over the first half
of the time. With ``--start``, trainings begin with the weights of a file; what a network has and the file has not
begins with zeros where it can, and so with the same predictions. ``recipes.csv`` is added to as each recipe is done;
one that is in it already is not trained again, so several seeds can be trained side by side. All of them have the same
settings. ``recipes.md`` has the means of the seeds.
"""

import argparse
import csv
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from benchmarks import openml
from benchmarks.measure import provenance
from benchmarks.prior_variants import Runner, save, step
from benchmarks.reports import check_checkout, check_least, check_positive, publish, writable_folder
from datamodules.prior.options import BatchOptions
from datamodules.prior.scm_options import GROUPS, ScmOptions
from datamodules.prior.synthetic import ScmBatches, SyntheticPrior
from tabattn.contract.batches import TableBatch
from tabattn.optim import MuonAdamW
from tabattn.prior.encoders import CellEncoder
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions
from tabattn.prior.weights import load_network
from tabattn.tasks import PriorClassification

CONFIGS = Path(__file__).parents[1] / "configs"
BASE: dict[str, Any] = {"rows": [40, 800], "batches": {"max_cells": 12000}}
"""Changes to ``configs/prior_cells.yaml`` that all recipes share."""

WARM, GROWN = 0.05, 0.5
"""Shares of the time after which the learning rate, and the sizes of tables in a training from nothing, are whole."""

LARGE = {"rows": [200, 1000]}
ROUGH = {"trees": 0.15, "forests": 0.25, "lookups": 0.1, "fourier": 0.15, "interactions": 0.1, "rules": 0.05}
COLUMNS = {"levels": 40, "categorical": 0.25, "tails": 0.15, "outliers": 0.15, "rounding": 0.15, "irrelevant": 0.3}
COLUMNS |= {"missing": 0.15, "blocks": 0.4, "duplicates": 0.3, "narrow": 0.8}
CLASSES = {"regions": 0.35, "many": 0.5}
DEEP: dict[str, Any] = {"network": {**ROUGH, "depth": [1, 8], "discrete": 0.3}}
HARD = {**LARGE, "features": [2, 60], "scm": {**DEEP, "columns": COLUMNS, "classes": CLASSES}}
ROWS = {"order": "rows", "summaries": 4, "row_layers": 4, "row_dim": 96, "row_heads": 4, "row_hidden": 192}
TOKENS: dict[str, Any] = {"dim": 32, "heads": 2, "hidden": 64, "layers": 2, "options": ROWS}
LARGER = {"row_layers": 6, "row_dim": 192, "row_heads": 6, "row_hidden": 384}
RECIPES: dict[str, dict[str, Any]] = {
    "start": {"seconds": 0},
    "cells": {},
    "large": {"data": LARGE},
    "columns": {"data": {"scm": {"columns": COLUMNS}}},
    "classes": {"data": {"scm": {"classes": CLASSES}}},
    "rough": {"data": {"scm": DEEP}},
    "rough, large": {"data": {**LARGE, "scm": DEEP}},
    "all": {"data": HARD},
    "radial": {"network": {"options": {"embedding": "rbf"}}},
    "pooling": {"network": {"options": {"readout": "attention"}}},
    "rows first": {"network": {"options": {"order": "rows"}}},
    "radial, pooling": {"network": {"options": {"embedding": "rbf", "readout": "attention"}}},
    "row tokens": {"network": TOKENS},
    "row tokens, radial": {"network": {**TOKENS, "options": {**ROWS, "embedding": "rbf"}}},
    "row tokens, all": {"network": TOKENS, "data": HARD},
    "row tokens, larger": {"network": {**TOKENS, "dim": 64, "hidden": 128, "options": {**ROWS, **LARGER}}},
}
"""Changes of each recipe: to the prior, and to the structure of the network."""

REPORT = "recipes.csv"

SETTINGS = ("start", "seconds", "lr", "folds", "estimators")
"""Options that all recipes of a report have in common."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prior_recipes", description=__doc__, allow_abbrev=False)
    parser.add_argument("--tables", type=Path, help="folder with index.csv and its files, to score on")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    parser.add_argument("--start", help="weights or checkpoint to begin with; without it, from nothing")
    parser.add_argument("--seconds", type=float, default=1200, help="of CPU time for each training (default: 1200)")
    parser.add_argument("--lr", type=float, default=0.01, help="of matrices; others have a fifth (default: 0.01)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--folds", type=int, default=2, help="of the tables (default: 2)")
    parser.add_argument("--estimators", type=int, default=1, help="members of the ensemble (default: 1)")
    parser.add_argument("--out", type=writable_folder, default=Path("runs/prior_recipes"), help="folder of the results")
    options = parser.parse_args(argv)
    check_positive(parser, options, "seconds", "lr")
    check_least(parser, options, folds=2, estimators=1, seeds=0)
    check_checkout(parser, "tables", options.tables, "index.csv")
    if options.start is not None and not Path(options.start).is_file():
        parser.error(f"start: there is no file {options.start}")
    for row in read(options.out / REPORT):
        for name, given in settings(options).items():
            if row[name] != given:
                parser.error(
                    f"{name} must be {row[name] or 'left out'}, as in {options.out / REPORT}, got {given or 'none'}"
                )
    return options


def settings(options: argparse.Namespace) -> dict[str, str]:
    """Settings as they are written in the report; empty = none."""
    return {name: "" if (value := getattr(options, name)) is None else f"{value}" for name in SETTINGS}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merged; the second wins."""
    result = dict(one)
    for name, value in other.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result


def data_of(recipe: Mapping[str, Any], seed: int) -> SyntheticPrior:
    """Datamodule of a recipe; tables are drawn in this process."""
    given = merged(merged(_config("prior_cells.yaml")["data"]["init_args"], BASE), recipe.get("data", {}))
    given["scm"] = ScmOptions(**{name: GROUPS[name](**group) for name, group in given.get("scm", {}).items()})
    given["batches"] = BatchOptions(max_cells=given["batches"]["max_cells"])
    return SyntheticPrior(**{**given, "tables": ("sklearn:iris",), "num_workers": 0, "seed": 1000 + seed})


def runner_of(name: str, options: argparse.Namespace, seed: int) -> Runner:
    """Network of a recipe in its task, with an optimizer."""
    torch.manual_seed(seed)
    start = None if options.start is None else load_network(options.start)
    given: dict[str, Any] = dict(_config("prior_cells.yaml")["model"]["init_args"]["network"]["init_args"])
    if start is not None:
        given |= {key: value for key, value in start.arguments.items() if not key.endswith("attention")}
    change = RECIPES[name].get("network", {})
    structure = given.get("options", PriorOptions())
    given |= {key: value for key, value in change.items() if key != "options"}
    given["options"] = PriorOptions(**{**vars(structure), **change.get("options", {})})
    task = PriorClassification(partial(PriorNetwork, **given))
    if start is not None:
        take_over(task.network, widened(start.state_dict(), task.network.cells, given["feature_group"]))
    made = MuonAdamW(task.network.parameters(), lr=options.lr, adamw_lr=options.lr / 5, weight_decay=0.01)
    return Runner(name, task, made, [group["lr"] for group in made.param_groups])


def widened(weights: Mapping[str, Tensor], cells: CellEncoder, group: int) -> dict[str, Tensor]:
    """Weights whose cell encoder reads radial functions too, each with the weight 0, if that of the network does."""
    weight = weights["cells.linear.weight"].unflatten(1, (group, -1))
    more = cells.linear.in_features // group - weight.shape[2]
    return {**weights, "cells.linear.weight": F.pad(weight, (0, more)).flatten(1)}


def take_over(network: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights; a network may have more tensors.

    Raises:
        ValueError: The network lacks one, or has another shape of it.
    """
    own = network.state_dict()
    for name, given in weights.items():
        if name not in own or own[name].shape != given.shape:
            found = tuple(own[name].shape) if name in own else "none"
            raise ValueError(f"{name} must be of shape {tuple(given.shape)}, as in the start, got {found}")
    network.load_state_dict(dict(weights), strict=False)


def train(runner: Runner, draw: Callable[[float, int], TableBatch], seconds: float) -> tuple[int, int, float]:
    """Train for a CPU time; return steps, tables and the mean loss of the second half of the time."""
    begun, steps, tables = time.process_time(), 0, 0
    losses: list[Tensor] = []
    while (spent := time.process_time() - begun) < seconds:
        share = spent / seconds
        batch = draw(share, steps)
        loss = step(runner, batch, min(share / WARM + 0.02, (1 - share) / (1 - WARM)), clip=1.0)
        steps, tables = steps + 1, tables + len(batch.x)
        if share > 0.5:
            losses.append(loss)
    return steps, tables, float(torch.stack(losses).mean()) if losses else float("nan")


def draw(data: SyntheticPrior, growing: bool, share: float, step: int) -> TableBatch:
    """Draw the batch of a step, at a share of the time until which sizes may have grown."""
    sizes = data.sizes.grown(min(1.0, share / GROWN)) if growing else data.sizes
    return ScmBatches(sizes, data.options, data.batch_size, data.packing.max_cells, 0, data.seeds.training)[step]


def score(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Mean scores of a checkpoint on the tables; those of each table are written beside it."""
    given = [str(options.tables), "--model", str(path), "--device", "cpu"]
    given += ["--folds", str(options.folds), "--estimators", str(options.estimators)]
    asked = openml.arguments(given)
    asked.methods = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = openml.measure(asked)
    found.to_csv(path.with_suffix(".csv"), index=False)
    return {key: float(found[key].mean()) for key in ("auc", "accuracy", "log_loss")}


def measure(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score a recipe."""
    runner = runner_of(name, options, seed)
    seconds = RECIPES[name].get("seconds", options.seconds)
    steps, tables, loss = train(runner, partial(draw, data_of(RECIPES[name], seed), options.start is None), seconds)
    path = options.out / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}.ckpt"
    save(runner, path, steps)
    size = sum(parameter.numel() for parameter in runner.task.network.parameters())
    row = {"recipe": name, "seed": seed, "parameters": size, "steps": steps, "tables": tables}
    row |= {"loss": loss, "tables_per_second": tables / max(seconds, 1e-9), **settings(options)}
    return row | ({} if options.tables is None else score(path, options))


def main(argv: Sequence[str] | None = None) -> None:
    """Train and score the recipes; add each to the report."""
    options = arguments(argv)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    report = options.out / REPORT
    for seed in options.seeds:
        for name in options.recipes:
            if (name, str(seed)) not in [(row["recipe"], row["seed"]) for row in read(report)]:
                append(report, measure(name, seed, options))
                publish(summary(read(report), options), report.with_suffix(".md"))


def summary(rows: Sequence[Mapping[str, str]], options: argparse.Namespace) -> str:
    """Report in Markdown: means of each recipe over its seeds, and the ROC AUC of each seed."""
    start = "from nothing" if options.start is None else f"from {Path(options.start).name}"
    said = (
        f"Trainings {start}, of {options.seconds:g} s of CPU time each, on {provenance(torch.device('cpu'))}. "
        f"Scores: means over the tables with {options.folds} folds and an ensemble of {options.estimators}."
    )
    scored = {"auc": "ROC AUC", "seeds": "of each seed", "accuracy": "accuracy", "log_loss": "log-loss"}
    head = ["recipe", "parameters", "steps", "tables", "loss", *(scored.values() if "auc" in rows[0] else ())]
    lines = [f"| {' | '.join(head)} |", f"| --- {'| ---: ' * (len(head) - 1)}|"]
    for name in dict.fromkeys(row["recipe"] for row in rows):
        own = [row for row in rows if row["recipe"] == name]
        cells = [name, f"{int(own[0]['parameters']):,}"]
        cells += [f"{statistics.mean(int(row[key]) for row in own):,.0f}" for key in ("steps", "tables")]
        kept = [key for key in ("loss", "auc", "accuracy", "log_loss") if key in own[0]]
        cells += [f"{statistics.mean(float(row[key]) for row in own):.4f}" for key in kept]
        if "auc" in kept:
            cells.insert(6, ", ".join(f"{float(row['auc']):.4f}" for row in own))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(["# Recipes of the prior task at equal CPU time", "", said, "", *lines, ""])


def read(report: Path) -> list[dict[str, str]]:
    """Lines of a report that may not be there yet."""
    if not report.is_file():
        return []
    with report.open(newline="") as file:
        return list(csv.DictReader(file))


def append(report: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a report, and print it."""
    written = {key: f"{value:.5g}" if isinstance(value, float) else str(value) for key, value in row.items()}
    with report.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(written))
        if not file.tell():
            writer.writeheader()
        writer.writerow(written)
    sys.stdout.write(f"{written}\n")
    sys.stdout.flush()


def _config(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text())
    return loaded


if __name__ == "__main__":
    main()
