"""Networks for tables that are not of the zoo: ``python -m benchmarks.zoo_tables --checkpoint C --zoo zoo.h5``.

Tables are tasks drawn anew from a profile, and diabetes where it fits. On each, the networks that a trained autoencoder
samples for it are compared with new weights in the same architectures, with the best network of the nearest task of the
zoo (by meta-features), all trained on for as many steps, and with ridge regression; and latent searches with random
search at equal evaluations. The scores are R2 on test rows.
"""

import argparse
import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from torch import nn

from benchmarks.measure import provenance
from benchmarks.reports import add_out, check_least, publish
from datamodules import NetworkZoo
from datamodules.zoo.profiles import PROFILES
from datamodules.zoo.tasks import TEST, TRAIN, draw_tasks
from tabattn.contract.modules import to_module
from tabattn.tasks import NetworkVAE
from tabattn.zoo.own_data import TableNetwork, fine_tune
from tabattn.zoo.search import METHODS, SearchOptions

STEPS = (0, 10, 50, 200)
"""Steps by which networks are trained on."""
PENALTIES = np.logspace(-3, 3, 13)
SEED = 9001
"""Seed of the tasks, another than those of zoos."""

Floats = NDArray[np.float64]


class Split(NamedTuple):
    """Table with its rows for training and for the test."""

    name: str
    x: Floats
    y: Floats
    x_test: Floats
    y_test: Floats


def tables(profile: str, count: int, columns: int) -> list[Split]:
    """Draw tables with at most so many columns; the last is diabetes, if it fits."""
    tasks = draw_tasks(PROFILES[profile].tasks, count, SEED)
    found = []
    for task in range(count):
        x, y = tasks.x[task, :, : tasks.columns[task]].astype(float), tasks.y[task, :, 0].astype(float)
        train, test = (tasks.part[task] == part for part in (TRAIN, TEST))
        found.append(Split(f"{profile} {task}", x[train], y[train], x[test], y[test]))
    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0)
    found.append(Split("diabetes", x_train, y_train, x_test, y_test))
    return [split for split in found if split.x.shape[1] <= columns]


def score(network: nn.Module, split: Split) -> float:
    """R2 on the test rows."""
    with torch.no_grad():
        return float(r2_score(split.y_test, network(torch.from_numpy(split.x_test)).nan_to_num()))


def renewed(network: nn.Module) -> nn.Module:
    """The same architecture with new weights."""
    made = copy.deepcopy(network)
    for part in made.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return made


def neighbour(task: NetworkVAE, data: NetworkZoo, split: Split) -> nn.Module | None:
    """Best network of the nearest task of the zoo with as many columns; None where there is none."""
    table = task.table(split.x, split.y)
    known = data.part("train")
    known = known[data.tasks["columns"][data.models["task"][known]] == split.x.shape[1]]
    if not len(known):
        return None
    distance = torch.cdist(table.meta[None], data.meta[data.models["task"][known]])[0]
    nearest = known[(distance == distance.min()).numpy()]
    best = nearest[np.argmax(data.models["train_r2"][nearest])]
    return TableNetwork(to_module(data.population[int(best)]), table)


def curves(task: NetworkVAE, data: NetworkZoo, split: Split) -> dict[str, list[float]]:
    """R2 of each kind of network after each number of steps; of several networks the median."""
    samples = task.sample_for(split.x, split.y, 3)
    kinds: dict[str, Sequence[nn.Module]] = {"sampled": samples, "new weights": [renewed(each) for each in samples]}
    near = neighbour(task, data, split)
    if near is not None:
        kinds["nearest task"] = [near]
    found = {
        name: [median(score(fine_tune(each, split.x, split.y, steps), split) for each in group) for steps in STEPS]
        for name, group in kinds.items()
    }
    ridge = RidgeCV(PENALTIES).fit(split.x, split.y).score(split.x_test, split.y_test)
    return found | {"ridge": [float(ridge)] * len(STEPS)}


def searches(task: NetworkVAE, split: Split, evaluations: int) -> dict[str, list[float]]:
    """Of each search the best R2 on its rows, the R2 of that network on the test rows, and the hypervolume."""
    size = task.network.sizes.vertices * task.network.sizes.width
    found = {}
    for method in METHODS:
        # Fewer starts, so that there are steps enough.
        options = SearchOptions(evaluations=evaluations, population=10 if method == "gradient" else 50, lr=0.1)
        evaluated, front = task.search_for(split.x, split.y, method, options)
        found[method] = [float(evaluated.quality.max()), score(front[0], split), evaluated.hypervolume(size)]
    return found


def rows_of(found: Sequence[dict[str, list[float]]], against: str, column: int) -> list[list[str]]:
    """Row of each kind: medians over tables, and on how many tables it beats another kind by one of the values."""
    lines = []
    for name in dict.fromkeys(name for each in found for name in each):
        own = [each for each in found if name in each]
        wins = sum(each[name][column] > each[against][column] for each in own)
        medians = [f"{median(values):.3f}" for values in zip(*(each[name] for each in own), strict=True)]
        lines.append([name, *medians, "" if name == against else f"{wins} of {len(own)}"])
    return lines


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Table in Markdown."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo_tables", description=__doc__, allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of a trained autoencoder")
    parser.add_argument("--zoo", type=Path, default=Path("zoo.h5"), help="zoo that it was trained on (default: zoo.h5)")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="seed", help="profile of the tasks drawn anew")
    parser.add_argument("--tasks", type=int, default=10, help="tasks drawn anew (default: %(default)s)")
    parser.add_argument("--evaluations", type=int, default=400, help="evaluations of a search (default: %(default)s)")
    add_out(parser, "zoo_tables.md")
    options = parser.parse_args(argv)
    check_least(parser, options, tasks=1, evaluations=50)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    options = arguments(argv)
    torch.manual_seed(0)
    task = NetworkVAE.load_from_checkpoint(options.checkpoint, map_location="cpu").eval()
    data = NetworkZoo(str(options.zoo))
    splits = tables(options.profile, options.tasks, task.network.sizes.inputs)
    compared = [curves(task, data, split) for split in splits]
    searched = list(map(partial(searches, task, evaluations=options.evaluations), splits))
    kinds = ("sampled", "new weights", "nearest task", "ridge")
    each = [
        [split.name, *(f"{found[kind][0]:.3f}" if kind in found else "" for kind in kinds)]
        for split, found in zip(splits, compared, strict=True)
    ]
    after = [f"{steps} steps" for steps in STEPS]
    searching = ["", "R2 on its rows", "R2 on test rows", "hypervolume", "tables above random"]
    text = [
        "# Networks for tables that are not of the zoo",
        "",
        f"Autoencoder: {type(task.network).__name__} with a latent of {task.network.latent}. "
        f"{len(splits)} tables: {options.tasks} tasks of profile `{options.profile}` drawn anew, and diabetes where it "
        "fits. R2 on test rows, median over tables.",
        "",
        *table(["", *after, "tables above ridge at once"], rows_of(compared, "ridge", 0)),
        "",
        f"Latent search, {options.evaluations} evaluations each.",
        "",
        *table(searching, rows_of(searched, "random", 0)),
        "",
        "Each table, at once:",
        "",
        *table(["", *kinds], each),
        "",
        f"{provenance(torch.device('cpu'))}.",
    ]
    publish("\n".join(text) + "\n", options.out)


if __name__ == "__main__":
    main()
