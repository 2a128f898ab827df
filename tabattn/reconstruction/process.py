"""Gaussian process: a first prediction of target columns, which a network corrects."""

from collections.abc import Sequence
from math import log
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.contract.cells import Column
from tabattn.contract.checks import check_least
from tabattn.reconstruction.covariances import LEAST, cholesky_factor, kernel, thinned
from tabattn.reconstruction.memory import Memory
from tabattn.reconstruction.normal_scores import NormalScores

ITERATIONS = 60
"""Most iterations of L-BFGS in the fit of the hyperparameters."""
STARTS = ((-4.0, -2.0), (-6.0, 0.0))
"""Logarithms of the noise's variance and of the slopes that fits begin with; the better one is kept."""
SPREADS = (2.0, 3.0, 1.0, 1.0)
"""Standard deviations of the priors of the logarithms of scale, noise, length scales and slopes."""
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

    Of a table with more than ``most_rows`` rows to learn from, up to ``memory_rows`` are kept at the fit, and all
    predictions condition on these instead of on the rows of a batch; those of the rows kept are leave-one-out ones.

    Args:
        columns: The columns.
        target: Place of the target column.
        most_rows: Most rows of a batch that it conditions on, and that its hyperparameters are fitted to, evenly spaced
            among those whose target is seen.
        memory_rows: Most rows kept of a larger table, evenly spaced; 0 = none.
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
        memory_rows: int = 10_000,
        *,
        scores: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__()
        check_least(most_rows=(most_rows, 1), memory_rows=(memory_rows, 0))
        self.target, self.most_rows, self.memory_rows = target, most_rows, memory_rows
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
        self.memory = Memory(width, max(1, len(columns[target].categories)))

    def forward(self, x: Tensor, hidden: Tensor, context: int, row: Tensor | None = None) -> Inferred:
        """Predict the target of all rows from the seen targets of context rows.

        Args:
            x: Cells as ``CellNetwork.forward`` takes them, ``(tables, rows, columns)``.
            hidden: Hidden or missing cells, of the same shape, boolean.
            context: Number of leading context rows.
            row: Number of each row in the table, ``(tables, rows)``, by which rows of the memory are known; None = the
                memory is not used.
        """
        mean, std, residual = self.infer(x, hidden, context, row)
        return Inferred(mean[..., 0].float(), std.float(), residual[..., 0].float())

    def infer(self, x: Tensor, hidden: Tensor, context: int, row: Tensor | None) -> Inferred:
        """Predict as ``forward`` does, all outputs in double precision, ``(tables, rows, outputs)``."""
        rows: Any = [None] * len(x) if row is None else row
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            tables = [self._infer(*each, context) for each in zip(x, hidden, rows, strict=True)]
        return Inferred(*(torch.stack(each) for each in zip(*tables, strict=True)))

    def fit(self, truth: Tensor, row: Tensor | None = None) -> None:
        """Set the hyperparameters by maximum a posteriori (L-BFGS) on at most ``most_rows`` rows, and keep rows.

        Args:
            truth: True cells of rows to learn from, ``(rows, columns)``; NaN = missing.
            row: Number of each row in the table, ``(rows,)``; None = unknown, so that none are kept.
        """
        self._maximise(truth)
        self.memory.load(self.memory.packed()[:0])
        known = (~truth[:, self.target].isnan()).nonzero()[:, 0]
        if row is not None and len(known) > self.most_rows and self.memory_rows:
            kept = thinned(known, self.memory_rows)
            kept = kept[row[kept].argsort()]
            truth = truth[kept]
            inputs = self._inputs(truth.nan_to_num(0.0), truth.isnan())
            self.memory.fill(row[kept], inputs, self._labels(truth), self._kernel, self._noise())

    def left_out(self, truth: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor]:
        """Leave-one-out predictions of rows that it was fitted to.

        Args:
            truth: True cells of the rows, ``(rows, columns)``, with seen targets.
            row: Number of each row in the table, ``(rows,)``; None = unknown.

        Returns:
            Places of the rows that are predicted, and the predictions, ``(predicted, outputs)``: of those in the memory
            if it holds any.
        """
        if row is None or not len(self.memory):
            every = torch.arange(len(truth), device=truth.device)
            return every, self.infer(truth.nan_to_num(0.0)[None], truth.isnan()[None], len(truth), None).mean[0]
        place = self.memory.places(row)
        return (place >= 0).nonzero()[:, 0], self.memory.mean[place[place >= 0]]

    def get_extra_state(self) -> Tensor:
        """Memory, as part of the ``state_dict``."""
        packed = self.memory.packed()
        return packed if packed.is_meta else packed.cpu()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the memory."""
        self.memory.load(state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *given: Any) -> None:
        state_dict.setdefault(f"{prefix}_extra_state", self.memory.packed()[:0])  # files of earlier versions have none
        super()._load_from_state_dict(state_dict, prefix, *given)

    def _maximise(self, truth: Tensor) -> None:
        known = thinned((~truth[:, self.target].isnan()).nonzero()[:, 0], self.most_rows)
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

    def _infer(self, x: Tensor, hidden: Tensor, row: Tensor | None, context: int) -> Inferred:
        told = (~hidden[:context, self.target]).nonzero()[:, 0]
        labels, inputs = self._labels(x), self._inputs(x, hidden)
        found = None if row is None or not len(self.memory) else self._recalled(inputs, row)
        mean, variance = found or self._conditioned(inputs, labels, thinned(told, self.most_rows))
        residual = torch.zeros_like(mean)
        residual[told] = labels[told] - mean[told]
        return Inferred(mean, variance.clamp(min=LEAST).sqrt(), residual)

    def _conditioned(self, inputs: Tensor, labels: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances of rows given some of them, which are predicted from the others of these."""
        mean, variance = torch.zeros_like(labels), self._variance(inputs)
        if not len(seen):
            return mean, variance
        others = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device).index_fill(0, seen, False)
        factor = cholesky_factor(self._covariance(inputs[seen], self._logs()))
        inverse = torch.cholesky_inverse(factor)
        weights, apart = inverse @ labels[seen], 1 / inverse.diagonal()
        cross = self._kernel(inputs[others], inputs[seen])
        mean[others], mean[seen] = cross @ weights, labels[seen] - weights * apart[:, None]
        variance[others] -= torch.linalg.solve_triangular(factor, cross.T, upper=False).square().sum(0)
        variance[seen] = apart
        return mean, variance

    def _recalled(self, inputs: Tensor, row: Tensor) -> tuple[Tensor, Tensor] | None:
        """Means and variances of rows given the memory; None where features are hidden of a row that it holds."""
        self.memory.to(inputs.device)
        place = self.memory.places(row)
        held = place >= 0
        # Not exactly: the memory may have been filled on another device, whose functions differ in their last digits.
        if not torch.allclose(inputs[held], self.memory.inputs[place[held]], rtol=1e-5, atol=1e-6):
            return None
        mean, variance = (
            self.memory.weights.new_zeros(len(inputs), self.memory.weights.shape[1]),
            self._variance(inputs),
        )
        mean[held], variance[held] = self.memory.mean[place[held]], self.memory.variance[place[held]]
        if not held.all():
            keep = not self.training
            mean[~held], known = self.memory.predict(inputs[~held], self._kernel, self._noise(), keep)
            variance[~held] -= known
        return mean, variance

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
        return kernel(inputs, inputs, logs) + noise * torch.eye(len(inputs), dtype=inputs.dtype, device=inputs.device)

    def _logs(self) -> list[Tensor]:
        return [each.double() for each in (self.scale, self.noise, self.lengths, self.slopes)]

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        return kernel(a, b, self._logs())

    def _noise(self) -> float:
        return LEAST + float(self.noise.double().exp())

    def _variance(self, inputs: Tensor) -> Tensor:
        """Prior variance of each row's target, noise included."""
        linear = (inputs * self.slopes.double().exp()).square().sum(1)
        return self.scale.double().exp() + LEAST + self.noise.double().exp() + linear
