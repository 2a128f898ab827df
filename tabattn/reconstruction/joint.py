"""Joint Gaussian: a first prediction of every cell of a row from the others, which a network corrects."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.contract.cells import Column
from tabattn.contract.checks import check_least
from tabattn.reconstruction.cell_network import Kinds, padded_categories

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Variances that are added to a covariance in each iteration; the one that predicts hidden cells best is kept."""
HIDDEN = 0.15
"""Share of the seen cells that are hidden to choose it."""
ITERATIONS, FEWER = 30, 12
"""Iterations of expectation maximisation; fewer to choose the ridge."""
ELEMENTS = 2**22
"""Most elements of the covariances of some rows, which are computed at a time."""
LEAST = 0.01
"""Least probability of a category before normalisation."""


class Conditional(NamedTuple):
    """Predictions of each cell from the other cells of its row that are seen.

    Attributes:
        mean: Mean of the cells of numeric columns, standardised, ``(tables, rows, numeric columns)``.
        std: Standard deviation, of that shape.
        residual: Cell minus mean where the cell is seen, else 0, of that shape.
        shares: Probabilities of the cells of categorical columns, ``(tables, rows, categorical columns, categories)``;
            0 behind the last category of a column.
        surprise: Indicators of the category minus the probabilities where the cell is seen, else 0, of that shape.
    """

    mean: Tensor
    std: Tensor
    residual: Tensor
    shares: Tensor
    surprise: Tensor


class Conditioned(NamedTuple):
    """Gaussian of rows given what is seen of them.

    Attributes:
        filled: What is seen, and conditional means elsewhere, ``(rows, width)``.
        covariance: Conditional covariance of what is not seen, ``(rows, width, width)``; 0 elsewhere.
        precision: Inverse of the covariance of what is seen, of that shape; identity elsewhere.
        weights: Precision times deviations from the mean, ``(rows, width)``; 0 where not seen.
    """

    filled: Tensor
    covariance: Tensor
    precision: Tensor
    weights: Tensor


class JointGaussian(nn.Module):
    """Multivariate Gaussian of the cells of a row: numbers, and indicators of categories.

    Mean and covariance are buffers, which ``fit`` estimates from rows with missing cells by expectation maximisation
    (Little and Rubin 2002, section 11.2) with a ridge. Predictions are conditional expectations, linear in what is seen
    of a row, in closed form for each pattern of missing cells; in double precision.

    Args:
        columns: The columns.
        most_rows: Most rows that it is fitted to, evenly spaced.
        most_width: Most numbers and indicators together; columns and rare categories beyond have a mean only.
    """

    centre: Tensor
    covariance: Tensor
    slots: Tensor

    def __init__(self, columns: Sequence[Column], most_rows: int = 1000, most_width: int = 128) -> None:
        super().__init__()
        check_least(most_rows=(most_rows, 2), most_width=(most_width, 1))
        self.kinds = Kinds.of(columns)
        self.most_rows = most_rows
        numbers, counts = len(self.kinds.numeric), self.kinds.counts
        self.numbers = min(numbers, most_width)
        each = (most_width - self.numbers) // len(counts) if counts else 0
        self.sizes = [min(each, count) for count in counts]
        width = self.numbers + sum(self.sizes)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("covariance", torch.eye(width))
        # Slot of each category among the indicators of its column; those from the size on have none.
        self.register_buffer("slots", torch.cat([torch.arange(0), *map(torch.arange, counts)]))
        self.absent: Tensor
        self.register_buffer("absent", padded_categories(counts), persistent=False)

    def forward(self, x: Tensor, hidden: Tensor) -> Conditional:
        """Predict all cells, each from the others of its row.

        Args:
            x: Cells as ``CellNetwork.forward`` takes them, ``(tables, rows, columns)``.
            hidden: Hidden or missing cells, of the same shape, boolean.
        """
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            size = _chunk(len(self.centre))
            pairs = zip(x.flatten(0, 1).split(size), hidden.flatten(0, 1).split(size), strict=True)
            found = zip(*(self._predict(*pair) for pair in pairs), strict=True)
        return Conditional(*(torch.cat(part).unflatten(0, x.shape[:2]).float() for part in found))

    def fit(self, truth: Tensor) -> None:
        """Estimate mean and covariance.

        Args:
            truth: True cells, ``(rows, columns)``; NaN = missing.
        """
        if len(truth) > self.most_rows:
            truth = truth[torch.linspace(0, len(truth) - 1, self.most_rows, device=truth.device).long()]
        self._rank_categories(truth)
        source = torch.Generator().manual_seed(0)
        drawn = (torch.rand(truth.shape, generator=source) < HIDDEN).to(truth.device)
        x, missing = truth.nan_to_num(0.0), truth.isnan()
        inputs, seen = self._inputs(x, missing)
        some = self._inputs(x, missing | drawn)[1]
        asked = seen & ~some
        best, least = RIDGES[-1], torch.inf
        for ridge in RIDGES:
            loss = float(
                _filled(inputs, some, *_maximised(inputs, some, ridge, FEWER)).sub(inputs)[asked].square().mean()
            )
            if loss < least:
                best, least = ridge, loss
        centre, covariance = _maximised(inputs, seen, best, ITERATIONS)
        self.centre.copy_(centre)
        self.covariance.copy_(covariance)

    def _rank_categories(self, truth: Tensor) -> None:
        """Give slots to the most frequent categories of each column."""
        places = zip(self.kinds.categorical, self.slots.split(self.kinds.counts), strict=True)
        for place, slots in places:
            codes = truth[:, place]
            counts = torch.bincount(codes[~codes.isnan()].long(), minlength=len(slots))
            order = torch.argsort(counts, descending=True, stable=True)
            slots[order] = torch.arange(len(slots), device=slots.device)

    def _inputs(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers and indicators of rows ``(rows, columns)``, and which are seen: ``(rows, width)`` each."""
        numeric = self.kinds.numeric[: self.numbers]
        values, seen = [x[:, numeric].double()], [~hidden[:, numeric]]
        slots = self.slots.split(self.kinds.counts) if self.kinds.counts else ()
        for place, size, own in zip(self.kinds.categorical, self.sizes, slots, strict=True):
            code = torch.where(hidden[:, place], 0.0, x[:, place]).long()
            values.append((own[code][:, None] == torch.arange(size, device=x.device)).double())
            seen.append(~hidden[:, place, None].expand(-1, size))
        return torch.cat(values, dim=1), torch.cat(seen, dim=1)

    def _predict(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        inputs, seen = self._inputs(x, hidden)
        centre, covariance = self.centre.double(), self.covariance.double()
        given = _condition(inputs, seen, centre, covariance)
        diagonal = given.precision.diagonal(dim1=1, dim2=2)
        residual = given.weights / diagonal  # Leave-one-out: 0 where not seen.
        variance = torch.where(seen, 1 / diagonal, given.covariance.diagonal(dim1=1, dim2=2))
        mean = given.filled - residual
        rows, numbers = len(x), self.numbers
        rest = len(self.kinds.numeric) - numbers
        shown = torch.where(hidden[:, self.kinds.numeric[numbers:]], 0.0, x[:, self.kinds.numeric[numbers:]]).double()
        empty = mean.new_zeros(rows, rest)
        shares, surprise = self._categories(x, hidden, given)
        return (
            torch.cat([mean[:, :numbers], empty], dim=1),
            torch.cat([variance[:, :numbers].clamp(min=1e-6).sqrt(), empty + 1], dim=1),
            torch.cat([residual[:, :numbers], shown], dim=1),
            shares,
            surprise,
        )

    def _categories(self, x: Tensor, hidden: Tensor, given: Conditioned) -> tuple[Tensor, Tensor]:
        counts = self.kinds.counts
        shares = given.filled.new_zeros(len(x), len(counts), max(counts, default=0))
        surprise = torch.zeros_like(shares)
        slots = self.slots.split(counts) if counts else ()
        start = self.numbers
        for at, (place, size, own) in enumerate(zip(self.kinds.categorical, self.sizes, slots, strict=True)):
            part = slice(start, start + size)
            start += size
            # A column's indicators are left out together where the cell is seen.
            seen = ~hidden[:, place]
            mean = given.filled[:, part].clone()
            apart = torch.linalg.solve(given.precision[seen, part, part], given.weights[seen, part])
            mean[seen] -= apart
            padded = F.pad(mean, (0, len(own) - size))[:, own].clamp(min=LEAST / len(own))
            shares[:, at, : len(own)] = padded / padded.sum(1, keepdim=True)
            code = F.one_hot(torch.where(seen, x[:, place], 0.0).long(), len(own))
            surprise[:, at, : len(own)] = (code - shares[:, at, : len(own)]) * seen[:, None]
        return shares, surprise


def _condition(inputs: Tensor, seen: Tensor, centre: Tensor, covariance: Tensor) -> Conditioned:
    """Condition a Gaussian on what is seen of rows ``(rows, width)``."""
    pairs = seen[:, :, None] & seen[:, None, :]
    eye = torch.eye(len(centre), dtype=inputs.dtype, device=inputs.device)
    precision = torch.cholesky_inverse(torch.linalg.cholesky(torch.where(pairs, covariance, eye)))
    weights = (precision @ torch.where(seen, inputs - centre, 0.0)[..., None])[..., 0]
    weights = torch.where(seen, weights, 0.0)
    filled = torch.where(seen, inputs, centre + weights @ covariance)
    explained = covariance @ torch.where(pairs, precision, 0.0) @ covariance
    neither = ~seen[:, :, None] & ~seen[:, None, :]
    return Conditioned(filled, torch.where(neither, covariance - explained, 0.0), precision, weights)


def _filled(inputs: Tensor, seen: Tensor, centre: Tensor, covariance: Tensor) -> Tensor:
    """Rows whose unseen parts are conditional means."""
    return _expected(inputs, seen, centre, covariance)[0]


def _expected(inputs: Tensor, seen: Tensor, centre: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Expectation step: rows whose unseen parts are conditional means, and the sum of the conditional covariances.

    What is not seen has the inverse of its part of the precision as conditional covariance; rows in which all is seen
    need no inverse, and rows that lack the same share one.
    """
    precision = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    filled, total = inputs.clone(), torch.zeros_like(covariance)
    eye = torch.eye(len(centre), dtype=inputs.dtype, device=inputs.device)
    for rows in (~seen).any(1).nonzero()[:, 0].split(_chunk(len(centre))):
        unseen = ~seen[rows]
        patterns, which, counts = unseen.unique(dim=0, return_inverse=True, return_counts=True)
        pairs = patterns[:, :, None] & patterns[:, None, :]
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(torch.where(pairs, precision, eye)))
        inverse = torch.where(pairs, inverse, 0.0)
        pulled = torch.where(unseen, 0.0, inputs[rows] - centre) @ precision
        means = centre - (inverse[which] @ pulled[..., None])[..., 0]
        filled[rows] = torch.where(unseen, means, inputs[rows])
        total += (counts[:, None, None] * inverse).sum(0)
    return filled, total


def _maximised(inputs: Tensor, seen: Tensor, ridge: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance by expectation maximisation."""
    counts = seen.sum(0).clamp(min=1)
    centre = torch.where(seen, inputs, 0.0).sum(0) / counts
    variance = torch.where(seen, (inputs - centre).square(), 0.0).sum(0) / counts
    covariance = torch.diag(variance + ridge)
    noise = ridge * torch.eye(len(centre), dtype=inputs.dtype, device=inputs.device)
    for _ in range(iterations):
        rows, unseen = _expected(inputs, seen, centre, covariance)
        centre = rows.mean(0)
        covariance = ((rows - centre).T @ (rows - centre) + unseen) / len(rows) + noise
    return centre, covariance


def _chunk(width: int) -> int:
    """Rows at a time."""
    return max(1, ELEMENTS // max(1, width) ** 2)
