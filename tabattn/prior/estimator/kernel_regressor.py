"""Gaussian process regressor: the ensemble member that is fitted to the table, beside those of a pretrained network."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import logsumexp

from tabattn.contract.columns import Floats
from tabattn.prior.estimator.cells import Cells, CellScaler
from tabattn.prior.estimator.distributions import Distribution, Mixture, StudentTargets
from tabattn.prior.estimator.ensemble import Scales
from tabattn.prior.estimator.gaussian_process import Features, GaussianProcess, Moments
from tabattn.prior.estimator.kernel import MOST_ROWS
from tabattn.prior.estimator.residuals import LocalResiduals
from tabattn.prior.estimator.stacking import stacked
from tabattn.prior.estimator.tails import Tails
from tabattn.prior.estimator.target_scale import TargetScale

FREEDOMS = (3.0, 4.0, 6.0, 10.0, 30.0, 100.0)
"""Degrees of freedom of the predictive distribution."""

FACTORS = np.geomspace(0.5, 1.6, 14)
"""Factors of the predictive standard deviation, to the scale of the distribution."""

PSEUDO = stats.t.ppf((np.arange(10) + 0.5) / 10, 4)
"""Residuals, of a t distribution, that are counted with those of the rows, so that few rows do not decide alone."""


class Fitted(NamedTuple):
    """Gaussian process of scaled targets, and the t distribution of its standardised residuals.

    Attributes:
        process: The Gaussian process.
        targets: Scaling of the targets.
        factor: Scale of the t distribution.
        freedom: Its degrees of freedom.
        residuals: Distributions of residuals that change with the fitted value.
    """

    process: GaussianProcess
    targets: TargetScale
    factor: float
    freedom: float
    residuals: LocalResiduals

    def distributions(self, moments: Moments) -> list[Distribution]:
        """Predictive distributions of rows with these moments: t distributions, and those of near residuals."""
        student = StudentTargets(moments.mean, self.factor * moments.std, self.freedom, self.targets)
        return [student, self.residuals.distribution(moments, self.targets)]

    def left_out(self, moments: Moments, y: Floats) -> list[Floats]:
        """Leave-one-out log-densities of the targets of context rows by both, given the leave-one-out moments."""
        student, _ = self.distributions(moments)
        near = self.residuals.left_out_density() - np.log(moments.std) + self.targets.log_slope(y)
        return [student.log_density(y), near]


class Solution(NamedTuple):
    """Gaussian processes and their mixture.

    Attributes:
        fitted: The processes.
        weights: Weight of each of their distributions, two for each process.
        left_out: Log-density of the target of each context row by the mixture, given the other rows, ``(rows,)``.
    """

    fitted: list[Fitted]
    weights: Floats
    left_out: Floats


class KernelRegressor:
    """Mixture of two Gaussian process regressors, of standardised and of power-transformed targets.

    The kernel is the sum of Matérn kernels of smoothness 5/2 and 1/2 with a relevance for each column (ARD) and of a
    linear kernel. Columns of numbers are read both standardised and rank-scaled, categories one-hot, and a missing
    number as 0 with an indicator. Hyperparameters have the largest posterior density (``GaussianProcess``). The
    leave-one-out residuals, in closed form, decide the scale and the degrees of freedom of predictive t distributions,
    and their density near a fitted value is a second predictive distribution (``LocalResiduals``). The leave-one-out
    densities decide the weights of the mixture (stacking, Yao et al. 2018). It is fitted at the first prediction.

    Args:
        x: Context rows, ``(rows, features)``; NaN = missing.
        y: Target of each row, ``(rows,)``.
        categorical: Which columns hold codes of categories.
        scales: Scalings of the columns, fitted to the context rows.
        limit: Most rows; of more, a sample is drawn. Never more than ``MOST_ROWS``.
        seed: Seed of the samples.
    """

    def __init__(
        self, x: Floats, y: Floats, categorical: NDArray[np.bool_], scales: Scales, limit: int, seed: int
    ) -> None:
        rows = np.sort(np.random.RandomState(seed).permutation(len(y))[: min(limit, MOST_ROWS)])
        self.seed = seed
        self._scaler = CellScaler(scales, categorical)
        cells, missing = self._scaler(x[rows]), self._missing(x[rows])
        # In an order of their own, so that predictions do not depend on that of the table.
        order = np.lexsort([*cells.numbers.T, *cells.codes.T, y[rows]])
        self.rows = rows[order]
        self.y = y[self.rows]
        self.partial = np.flatnonzero(missing.any(0))
        self.known = [np.unique(codes) for codes in cells.codes.T]
        self.context = self._features(cells, missing)[order]

    def __getstate__(self) -> dict[str, Any]:
        """State without the solution, which can be recomputed."""
        return {name: value for name, value in self.__dict__.items() if name != "solution"}

    @cached_property
    def solution(self) -> Solution:
        """Fitted Gaussian processes, with the weights of the largest leave-one-out density."""
        features = Features(self.context, self._groups())
        found: list[Fitted] = []
        scores: list[Floats] = []
        kept = Tails.of(self.y).kept
        for power in (False, True):
            targets = TargetScale.of(self.y, power=power)
            if power and targets.power == 1:
                continue
            random = np.random.RandomState(self.seed)
            process = GaussianProcess.fit(features, len(self._scaler.categorical), targets.labels(self.y), random)
            moments = process.left_out()
            factor, freedom = calibrated((process.z - moments.mean) / moments.std)
            found.append(Fitted(process, targets, factor, freedom, LocalResiduals.fit(moments, process.z)))
            scores += found[-1].left_out(moments, kept)
        densities = np.stack(scores, axis=1)
        weights = stacked(densities)
        return Solution(found, weights, logsumexp(densities, axis=1, b=weights))

    def distribution(self, x: Floats) -> Mixture:
        """Predictive distribution of the targets of rows ``(rows, features)``; NaN = missing."""
        features = self._features(self._scaler(x), self._missing(x))
        parts: list[Distribution] = []
        for fitted in self.solution.fitted:
            parts += fitted.distributions(fitted.process.predict(features))
        return Mixture(parts, self.solution.weights.tolist())

    def _missing(self, x: Floats) -> NDArray[np.bool_]:
        return np.isnan(x[:, ~self._scaler.categorical])

    def _features(self, cells: Cells, missing: NDArray[np.bool_]) -> Floats:
        """Numbers, indicators of missing ones, and categories one-hot, ``(rows, features)``."""
        hot = [codes[:, None] == known for codes, known in zip(cells.codes.T, self.known, strict=True)]
        return np.concatenate([cells.numbers, missing[:, self.partial], *hot], axis=1).astype(np.float64)

    def _groups(self) -> NDArray[np.int64]:
        """Group of each feature: each number and indicator is one, and each categorical column."""
        single = self.context.shape[1] - sum(map(len, self.known))
        sizes = [len(known) for known in self.known]
        return np.concatenate([np.arange(single), single + np.repeat(np.arange(len(sizes)), sizes)]).astype(np.int64)


def calibrated(residuals: Floats) -> tuple[float, float]:
    """Scale and degrees of freedom of the t distribution under which standardised residuals are most likely."""
    counted = np.concatenate([residuals, PSEUDO])

    def likelihood(pair: tuple[float, float]) -> float:
        return float(stats.t.logpdf(counted / pair[0], pair[1]).mean() - np.log(pair[0]))

    return max(((float(factor), freedom) for factor in FACTORS for freedom in FREEDOMS), key=likelihood)
