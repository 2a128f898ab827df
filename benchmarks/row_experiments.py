"""Experiments on how much predictions depend on other rows: corruption, deletion, and deciding rows left out.

Kossen et al. 2021 (arXiv 2106.02584), section 4.4.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from scipy.stats import wilcoxon
from torch import Generator, Tensor

from tabattn.contract.cells import CellBatch, Column
from tabattn.reconstruction import PredictOptions
from tabattn.reconstruction.deciding import decide
from tabattn.tasks import TableReconstruction

Figures = dict[str, float]
"""Figures of one line of a report, by name."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Deciding rows: shares of the context that are left out."""
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
        good = _first_near(task, batch, place, tried, first, limit)
        kept, refused = (kept, refused + TABLES) if good is None else (good, 0)
        if refused >= PATIENCE:
            limit, refused = limit * GROWTH, 0
    far = distances(batch, task.columns)
    return Deleted(len(kept) / count, float(far[kept].mean()), float(far.mean()))


def _first_near(
    task: TableReconstruction, batch: CellBatch, place: int, tried: Sequence[Tensor], first: Tensor, limit: float
) -> Tensor | None:
    """First rows by which the prediction changes by less than the limit; None = there are none."""
    for part in (tried[:1], tried[1:4], tried[4:]):  # Often the first will do, and costs a sixteenth of all.
        found = predict(task, [chosen(batch, rows) for rows in part], place)
        change = (found - first).abs().sum(-1) / (2 if task.columns[place].categories else 1)
        if len(good := (change < limit).nonzero()[:, 0]):
            return part[int(good[0])]
    return None


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


def corruptions(task: TableReconstruction, batches: Sequence[CellBatch], place: int, seed: int) -> list[Figures]:
    """Lines of the report on corruption: scores as they are and corrupted, and their ratio."""
    plain, changed = corruption(task, batches, place, seed)
    return [
        {
            f"{key}, {what}": value
            for key in plain
            for what, value in (("plain", plain[key]), ("permuted", changed[key]))
        }
    ]


def deletions(
    task: TableReconstruction, batches: Sequence[CellBatch], place: int, seed: int, most: int
) -> list[Figures]:
    """Line of the report on deletion from at most so many test rows."""
    source = torch.Generator().manual_seed(seed)
    rows = [row for batch in batches for row in singles(batch)][:most]
    runs = [deletion(task, row, place, source) for row in rows]
    share, near, every = (sum(values) / len(runs) for values in zip(*runs, strict=True))
    apart = [run.near - run.all for run in runs]
    chance = wilcoxon(apart, alternative="less").pvalue if any(apart) else 1.0
    figures = {"test rows": len(runs), "share kept": share, "distance of the kept": near}
    return [{**figures, "distance of all": every, "p (Wilcoxon)": float(chance)}]


@torch.inference_mode()
def left_out(task: TableReconstruction, batches: Sequence[CellBatch], place: int) -> list[Figures]:
    """Lines of the report on deciding rows: mean size of the changes without a share of the context, and the errors.

    Args:
        task: Trained task.
        batches: Test batches.
        place: Place of the target column.
    """
    at = [place for place, column in enumerate(task.columns) if column.target].index(place)
    lines = []
    for share in SHARES:
        moved = []
        for batch in batches:
            most = max(1, round(share * batch.context))
            found = decide(task.network, batch, task(batch), task.columns, PredictOptions(most))
            moved.append(found.changes[:, at].abs())
        top, random = torch.cat(moved).nanmean(0).tolist()
        lines.append({"share left out": share, "change without deciding rows": top, "without random rows": random})
    return lines
