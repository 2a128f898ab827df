"""How much predictions depend on other rows: ``python -m benchmarks.row_interactions corruption|deletion --run RUN``.

Kossen et al. 2021 (arXiv 2106.02584), section 4.4, on the test rows of a training of the reconstruction task, which is
given by its run folder. *Corruption*: for each test row, each column of the inputs is permuted over all other rows,
independently of the other columns; a network that uses other rows then predicts worse. *Deletion*: for each test row,
random other rows are dropped while its prediction stays nearly the same; a network that uses similar rows needs those
that are near. Further arguments go to the command line that builds the data again, such as ``--data.table=my.csv``.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.stats import wilcoxon
from torch import Generator, Tensor

from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_least, check_trainings, publish
from tabattn.contract.cells import CellBatch, Column
from tabattn.tasks import TableReconstruction
from tabattn.training.cli import CLI

TABLES = 16
"""Tables that are predicted in one forward pass."""
FIRST, MOST, GROWTH, PATIENCE = 0.01, 0.1, 1.1, 50
"""Deletion: first and last limit of the change of a prediction, in standard deviations or as a difference of
probabilities; the factor by which the limit grows, and the refusals in a row after which it does."""
LEAST, BLOCK = 0.02, 0.02
"""Deletion: share of the rows at which it ends, and share of the kept rows that are dropped at a time."""


class Deleted(NamedTuple):
    """Result of deletion for one test row.

    Attributes:
        share: Share of the other rows that were kept.
        near: Mean distance in feature space of the kept rows.
        all: The same of all other rows, which is that expected of random ones.
    """

    share: float
    near: float
    all: float


def singles(batch: CellBatch) -> Iterator[CellBatch]:
    """Yield for each row to predict a batch of the same tables, in which it is last, and all others are context.

    Where all rows attend to one another, the other rows to predict are among them, and the row is context too.
    """
    rows = batch.x.shape[1]
    together = batch.context == rows
    asked = batch.scored[0].any(-1).nonzero()[:, 0] if together else torch.arange(batch.context, rows)
    for row in asked.tolist():
        others = torch.arange(batch.context)
        order = torch.cat([others[others != row], torch.tensor([row])])
        x, hidden, truth, scored, numbers = (
            part[:, order] for part in (batch.x, batch.hidden, batch.truth, batch.scored, batch.row)
        )
        yield CellBatch(x, hidden, truth, scored, len(order) if together else len(order) - 1, numbers)


def corrupted(batch: CellBatch, source: Generator) -> CellBatch:
    """Permute each column of each table over all rows but the last, inputs and mask alike."""
    tables, rows, columns = batch.x.shape
    order = torch.rand(tables, rows - 1, columns, generator=source).argsort(dim=1)
    order = torch.cat([order, torch.full((tables, 1, columns), rows - 1)], dim=1)
    return batch._replace(x=batch.x.gather(1, order), hidden=batch.hidden.gather(1, order))


@torch.inference_mode()
def predict(task: TableReconstruction, batches: Sequence[CellBatch], place: int) -> Tensor:
    """Predict a target of the last row of batches of one size, averaged over the tables of each.

    Returns:
        Standardised means, ``(batches, 1)``, or probabilities, ``(batches, categories)``.
    """
    x, hidden = (torch.cat(list(parts)) for parts in zip(*((each.x, each.hidden) for each in batches), strict=True))
    found = task.network(x, hidden, batches[0].context)
    kinds = task.network.kinds
    if place in kinds.numeric:
        last = found.mean[:, -1, kinds.numeric.index(place), None]
    else:
        at = kinds.categorical.index(place)
        last = found.logits[:, -1, at, : kinds.counts[at]].softmax(-1)
    return last.view(len(batches), -1, last.shape[-1]).mean(1)


def score(found: Tensor, truth: Tensor, column: Column) -> dict[str, float]:
    """Scores of a target: RMSE in its own units, or accuracy and negative log-likelihood."""
    if column.categories:
        likely = found.gather(1, truth.long()[:, None]).clamp(min=1e-7)
        return {
            "accuracy": float((found.argmax(-1) == truth).float().mean()),
            "nll": -float(likely.log().mean()),
        }
    return {"rmse": column.std * float((found[:, 0] - truth).square().mean().sqrt())}


def corruption(
    task: TableReconstruction, batches: Sequence[CellBatch], place: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of a target of the test rows, with the other rows as they are, and with their columns permuted."""
    source = torch.Generator().manual_seed(seed)
    plain, changed, truth = [], [], []
    for batch in batches:
        rows = [each for each in singles(batch) if not each.truth[0, -1, place].isnan()]
        step = max(1, TABLES // len(batch.x))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            plain.append(predict(task, part, place))
            changed.append(predict(task, [corrupted(each, source) for each in part], place))
            truth.append(torch.stack([each.truth[0, -1, place] for each in part]))
    column = task.columns[place]
    return score(torch.cat(plain), torch.cat(truth), column), score(torch.cat(changed), torch.cat(truth), column)


def deletion(task: TableReconstruction, batch: CellBatch, place: int, source: Generator) -> Deleted:
    """Drop random rows while the prediction of the last row of a table changes little.

    Args:
        task: Trained task.
        batch: Batch of ``singles``, of which the first table is used.
        place: Place of the target column.
        source: Source of randomness.
    """
    count = batch.x.shape[1] - 1
    kept, limit, refused = torch.arange(count), FIRST, 0
    first = predict(task, [chosen(batch, kept)], place)
    while len(kept) > LEAST * count and len(kept) > 1 and limit <= MOST:
        left = len(kept) - max(1, int(BLOCK * len(kept)))
        tried = [kept[torch.randperm(len(kept), generator=source)[:left].sort().values] for _ in range(TABLES)]
        found = predict(task, [chosen(batch, rows) for rows in tried], place)
        change = (found - first).abs().sum(-1) / (2 if task.columns[place].categories else 1)
        good = (change < limit).nonzero()[:, 0]
        if len(good):
            kept, refused = tried[int(good[0])], 0
        else:
            refused += TABLES
        if refused >= PATIENCE:
            limit, refused = limit * GROWTH, 0
    far = distances(batch, task.columns)
    return Deleted(len(kept) / count, float(far[kept].mean()), float(far.mean()))


def chosen(batch: CellBatch, rows: Tensor) -> CellBatch:
    """First table of a batch with some of its rows and the last one."""
    last = batch.x.shape[1] - 1
    order = torch.cat([rows, torch.tensor([last])])
    x, hidden, truth, scored, numbers = (
        part[:1, order] for part in (batch.x, batch.hidden, batch.truth, batch.scored, batch.row)
    )
    return CellBatch(x, hidden, truth, scored, len(rows) + (batch.context > last), numbers)


def distances(batch: CellBatch, columns: Sequence[Column]) -> Tensor:
    """Distance of each row of the first table from its last one, by the features that both have, ``(rows - 1,)``.

    Numbers count by their standardised difference, categories by 1 where they differ.
    """
    truth = batch.truth[0]
    apart = truth[:-1] - truth[-1]
    categorical = torch.tensor([bool(column.categories) for column in columns])
    apart = torch.where(categorical & ~apart.isnan(), (apart != 0).float(), apart)
    features = torch.tensor([not column.target for column in columns])
    return apart[:, features].square().nanmean(-1).nan_to_num(0.0).sqrt()


def load(options: argparse.Namespace) -> tuple[TableReconstruction, list[CellBatch]]:
    """Load the task of a run and its test batches."""
    config, checkpoint = options.run / "config.yaml", options.run / "checkpoints" / "best.ckpt"
    cli = CLI([f"--config={config}", *QUIET, "--trainer.accelerator=cpu", *options.further], run=False)
    task = TableReconstruction.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    task.check_data(cli.datamodule)
    return task, list(cli.datamodule.test_dataloader())


def measure(options: argparse.Namespace) -> list[str]:
    """Lines of the report for every target."""
    task, batches = load(options)
    lines = []
    for place in (place for place, column in enumerate(task.columns) if column.target):
        name = task.columns[place].name
        if options.what == "corruption":
            plain, changed = corruption(task, batches, place, options.seed)
            lines += [f"| {name} | {key} | {plain[key]:.4g} | {changed[key]:.4g} |" for key in plain]
        else:
            source = torch.Generator().manual_seed(options.seed)
            rows = [row for batch in batches for row in singles(batch)][: options.rows]
            runs = [deletion(task, row, place, source) for row in rows]
            share, near, every = (sum(values) / len(runs) for values in zip(*runs, strict=True))
            test = wilcoxon([run.near - run.all for run in runs], alternative="less").pvalue
            lines.append(f"| {name} | {len(runs)} | {share:.3f} | {near:.3f} | {every:.3f} | {test:.2g} |")
    return lines


HEADS = {
    "corruption": (
        ["target", "score", "rows as they are", "columns permuted"],
        "Scores of the test rows, each predicted with all other rows as they are, and with each of their columns "
        "permuted independently.",
    ),
    "deletion": (
        ["target", "test rows", "share kept", "distance of the kept", "distance of all", "p (Wilcoxon)"],
        "For each test row, random other rows are dropped while its prediction changes by less than "
        f"{FIRST}, later up to {MOST}, standard deviations (or total variation of its probabilities). Distances are "
        "root mean squares over standardised features; p is that of the one-sided signed-rank test that kept rows are "
        "no nearer.",
    ),
}
"""Head of the table and words of the report, by experiment."""


def report(options: argparse.Namespace) -> str:
    """Report in Markdown."""
    heads, words = HEADS[options.what]
    table = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1), *measure(options)]
    head = [f"# Row interactions: {options.what}", "", f"{provenance(torch.device('cpu'))}, run {options.run}.", ""]
    return "\n".join([*head, words, "", *table, ""])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.row_interactions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=HEADS, help="experiment")
    parser.add_argument("--run", type=Path, required=True, help="folder of a run, with config.yaml and checkpoints")
    parser.add_argument("--rows", type=int, default=50, help="test rows of the deletion (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of permutations and deletions (default: 0)")
    add_out(parser, "row_interactions.md")
    options, further = parser.parse_known_args(argv)
    options.further = check_trainings(parser, further, QUIET)
    check_least(parser, options, rows=1, seed=0)
    for file in (options.run / "config.yaml", options.run / "checkpoints" / "best.ckpt"):
        if not file.is_file():
            parser.error(f"run: {options.run} is no folder of a training: there is no {file}")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write and print the report."""
    options = arguments(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    text = report(options)
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
