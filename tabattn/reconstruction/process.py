"""Gaussian process: a first prediction of target columns, which a network corrects."""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.contract.cells import Column
from tabattn.contract.checks import check_least
from tabattn.reconstruction.normal_scores import NormalScores

LEAST = 1e-5
"""Least variance of the noise of a standardised target."""
ITERATIONS = 60
"""Most iterations of L-BFGS in the fit of the hyperparameters."""
STARTS = ((-4.0, -2.0), (-6.0, 0.0))
"""Logarithms of the noise's variance and of the slopes that fits begin with; the better one is kept."""
SPREADS = (2.0, 3.0, 1.0, 1.0)
"""Standard deviations of the priors of the logarithms of scale, noise, length scales and slopes."""
RAISES = 8
"""Most times that the diagonal of a covariance is raised."""
FARTHEST = 12.0
"""Largest size of the logarithm of a hyperparameter."""


class Inferred(NamedTuple):
    """Predictions of a target column by a Gaussian process.

    Attributes:
        mean: Mean, standardised, ``(tables, rows)``.
        std: Standard deviation, of that shape.
        residual: Label minus mean in rows whose label is seen, else 0, of that shape.
    """

    mean: Tensor
    std: Tensor
    residual: Tensor


class GaussianProcess(nn.Module):
    """Gaussian process regression of a numeric target column on the features: Matern-5/2 plus linear kernel, with ARD.

    Exact, in double precision (Rasmussen and Williams 2006, section 2.2). Rows whose target is seen are predicted from
    the others (leave-one-out, section 5.4.2), so that no prediction contains its own label. The hyperparameters are
    buffers, which ``fit`` sets by maximum a posteriori: the marginal likelihood (section 5.4.1) times log-normal
    priors, without which as many length scales as columns overfit.

    Args:
        columns: The columns.
        target: Place of the target column.
        most_rows: Most rows that it conditions on, evenly spaced among those whose target is seen.
        scores: Whether the normal scores of numeric features are features too, with length scales of their own.
        tied: Whether all features have one length scale and one slope (isotropic kernel).
    """

    scale: Tensor
    noise: Tensor
    lengths: Tensor
    slopes: Tensor

    def __init__(
        self,
        columns: Sequence[Column],
        target: int,
        most_rows: int = 1000,
        *,
        scores: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__()
        check_least(most_rows=(most_rows, 1))
        self.target, self.most_rows = target, most_rows
        self.features = [place for place, column in enumerate(columns) if not column.target]
        self.sizes = [len(columns[place].categories) for place in self.features]
        self.numeric = [place for place, size in zip(self.features, self.sizes, strict=True) if not size]
        self.scores = NormalScores(len(self.numeric)) if scores else None
        width = sum(max(1, size) for size in self.sizes) + (len(self.numeric) if scores else 0)
        self.typical = 0.5 * log(max(1, width))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("noise", torch.tensor(-4.0))
        self.register_buffer("lengths", torch.full((1 if tied else width,), self.typical))
        self.register_buffer("slopes", torch.full((1 if tied else width,), -2.0))

    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Inferred:
        """Predict the target of all rows from the seen targets of context rows.

        Args:
            x: Cells as ``CellNetwork.forward`` takes them, ``(tables, rows, columns)``.
            hidden: Hidden or missing cells, of the same shape, boolean.
            context: Number of leading context rows.
        """
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            tables = [self._infer(*each, context) for each in zip(x, hidden, strict=True)]
        mean, std, residual = (torch.stack(each).float() for each in zip(*tables, strict=True))
        return Inferred(mean[..., 0], std, residual[..., 0])

    def fit(self, truth: Tensor) -> None:
        """Set the hyperparameters by maximum a posteriori (L-BFGS) on at most ``most_rows`` rows.

        Args:
            truth: True cells of rows to learn from, ``(rows, columns)``; NaN = missing.
        """
        known = self._thinned((~truth[:, self.target].isnan()).nonzero()[:, 0])
        if len(known) < 2:
            return
        truth = truth[known]
        if self.scores is not None:
            self.scores.fit(truth[:, self.numeric])
        inputs, labels = self._inputs(truth.nan_to_num(0.0), truth.isnan()), self._labels(truth)
        with torch.enable_grad(), torch.autocast(truth.device.type, enabled=False):
            fits = [self._maximised(inputs, labels, *start) for start in STARTS]
        loss, best = min(fits, key=lambda fit: fit[0])
        if loss < float("inf"):
            for own, value in zip((self.scale, self.noise, self.lengths, self.slopes), best, strict=True):
                own.copy_(value)

    def _maximised(self, inputs: Tensor, labels: Tensor, noise: float, slope: float) -> tuple[float, list[Tensor]]:
        """Negative log-posterior and logarithms of hyperparameters of a local maximum; infinite if there is none."""
        values = (torch.zeros_like(self.scale), torch.full_like(self.noise, noise))
        lengths = torch.full_like(self.lengths, self.typical)
        logs = [each.double().requires_grad_() for each in (*values, lengths, torch.full_like(lengths, slope))]
        optimizer = torch.optim.LBFGS(logs, max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            optimizer.zero_grad()
            loss = self._negative_posterior(inputs, labels, logs)
            loss.backward()
            return loss

        try:
            optimizer.step(objective)
            loss = float(self._negative_posterior(inputs, labels, logs).detach())
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            loss = float("inf")
        found = [each.detach().clamp(-FARTHEST, FARTHEST) for each in logs]
        finite = loss == loss and all(bool(each.isfinite().all()) for each in found)
        return (loss if finite else float("inf")), found

    def _negative_posterior(self, inputs: Tensor, labels: Tensor, logs: Sequence[Tensor]) -> Tensor:
        logs = [each.clamp(-FARTHEST, FARTHEST) for each in logs]
        factor = torch.linalg.cholesky(self._covariance(inputs, logs))
        fit = 0.5 * (labels * torch.cholesky_solve(labels, factor)).sum()
        return (fit + labels.shape[1] * factor.diagonal().log().sum() - self._log_prior(logs)) / len(labels)

    def _log_prior(self, logs: Sequence[Tensor]) -> Tensor:
        """Logarithm of the prior density of the hyperparameters, but for a constant."""
        typical = (0.0, -4.0, self.typical, -2.0)
        each = zip(logs, typical, SPREADS, strict=True)
        return -0.5 * torch.stack([((value - mean) / spread).square().sum() for value, mean, spread in each]).sum()

    def _infer(self, x: Tensor, hidden: Tensor, context: int) -> Inferred:
        told = (~hidden[:context, self.target]).nonzero()[:, 0]
        labels, inputs = self._labels(x), self._inputs(x, hidden)
        mean, variance = torch.zeros_like(labels), self._variance(inputs)
        if len(told):
            seen = self._thinned(told)
            others = torch.ones(len(x), dtype=torch.bool, device=x.device).index_fill(0, seen, False)
            logs = [each.double() for each in (self.scale, self.noise, self.lengths, self.slopes)]
            factor = _factor(self._covariance(inputs[seen], logs))
            inverse = torch.cholesky_inverse(factor)
            weights, apart = inverse @ labels[seen], 1 / inverse.diagonal()
            cross = _kernel(inputs[others], inputs[seen], logs)
            mean[others], mean[seen] = cross @ weights, labels[seen] - weights * apart[:, None]
            variance[others] -= torch.linalg.solve_triangular(factor, cross.T, upper=False).square().sum(0)
            variance[seen] = apart
        residual = torch.zeros_like(mean)
        residual[told] = labels[told] - mean[told]
        return Inferred(mean, variance.clamp(min=LEAST).sqrt(), residual)

    def _thinned(self, rows: Tensor) -> Tensor:
        if len(rows) <= self.most_rows:
            return rows
        return rows[torch.linspace(0, len(rows) - 1, self.most_rows, device=rows.device).long()]

    def _inputs(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Features as numbers, categories as indicators, and normal scores; 0 where hidden."""
        parts = [
            F.one_hot(x[:, place].long(), size) * ~hidden[:, place, None] if size else x[:, place, None]
            for place, size in zip(self.features, self.sizes, strict=True)
        ]
        if self.scores is not None:
            parts.append(self.scores(x[:, self.numeric]) * ~hidden[:, self.numeric])
        return torch.cat([x.new_zeros(len(x), 0).double(), *(part.double() for part in parts)], dim=1)

    def _labels(self, x: Tensor) -> Tensor:
        """What is to be predicted of each row, ``(rows, outputs)``."""
        return x[:, self.target, None].double()

    def _covariance(self, inputs: Tensor, logs: Sequence[Tensor]) -> Tensor:
        noise = LEAST + logs[1].exp()
        return _kernel(inputs, inputs, logs) + noise * torch.eye(len(inputs), dtype=inputs.dtype, device=inputs.device)

    def _variance(self, inputs: Tensor) -> Tensor:
        """Prior variance of each row's target, noise included."""
        linear = (inputs * self.slopes.double().exp()).square().sum(1)
        return self.scale.double().exp() + LEAST + self.noise.double().exp() + linear


def _kernel(a: Tensor, b: Tensor, logs: Sequence[Tensor]) -> Tensor:
    scale, _, lengths, slopes = logs
    ones, others = a / lengths.exp(), b / lengths.exp()
    square = ones.square().sum(1)[:, None] + others.square().sum(1) - 2 * ones @ others.T
    distance = (5 * square.clamp(min=1e-12)).sqrt()
    matern = scale.exp() * (1 + distance + distance.square() / 3) * (-distance).exp()
    return matern + (a * (2 * slopes).exp()) @ b.T


def _factor(covariance: Tensor) -> Tensor:
    """Cholesky factor; the diagonal is raised tenfold at a time where rounding has left no positive definite matrix."""
    raised = LEAST * covariance.diagonal().mean() * torch.eye(len(covariance), device=covariance.device).double()
    factor, failed = torch.linalg.cholesky_ex(covariance)
    for power in range(RAISES):
        if not failed:
            break
        factor, failed = torch.linalg.cholesky_ex(covariance + 10.0**power * raised)
    return factor
