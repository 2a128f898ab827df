"""Ensemble members of the regressor: the same table under other scalings of columns and targets, and other orders."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from tabattn.contract.columns import Floats
from tabattn.prior.bars import Bars
from tabattn.prior.estimator.distributions import Mixture
from tabattn.prior.estimator.ensemble import RANKS, STANDARD, Ensemble, Member
from tabattn.prior.estimator.target_scale import TargetScale


class NumberQuestion(NamedTuple):
    """Regression problem that a member poses to the network: context rows and the scaling of their targets.

    Attributes:
        member: Index of the member.
        rows: Context rows, ``(context,)``.
        targets: Scaling of the targets, made from those of the context rows.
    """

    member: int
    rows: NDArray[np.int64]
    targets: TargetScale

    def labels(self, y: NDArray[Any]) -> NDArray[np.float32]:
        return self.targets(y[self.rows]).astype(np.float32)


class BarTargets(NamedTuple):
    """Bar distributions of scaled targets.

    Attributes:
        logits: Logits of the bars, ``(rows, bars)``.
        targets: Scaling of the targets.
    """

    logits: torch.Tensor
    targets: TargetScale

    @property
    def bars(self) -> Bars:
        """The bars."""
        return Bars(self.logits.shape[-1])

    def cdf(self, y: Floats) -> Floats:
        z = self._z(y)
        return _double(self.bars.cdf(self.logits[:, None].expand(*z.shape, -1), z))

    def log_density(self, y: Floats) -> Floats:
        return _double(self.bars.log_density(self.logits, self._z(y))) + self.targets.log_slope(y)

    def quantile(self, q: Floats) -> Floats:
        found = [_double(self.bars.quantile(self.logits, float(each))) for each in q]
        return self.targets.inverse(np.stack(found, axis=1))

    def mean(self) -> Floats:
        if self.targets.power == 1:
            return self.targets.inverse(_double(self.bars.mean(self.logits)))
        # The density is uniform between borders, and there the transform is near a line; the tails are at their means.
        bars, chances = self.bars, _double(self.logits.softmax(-1))
        borders = bars.borders.double().numpy()
        middles = self.targets.inverse((borders[1:] + borders[:-1]) / 2)
        ends = self.targets.inverse(np.array([borders[0] - bars.scale, borders[-1] + bars.scale]))
        return np.asarray(chances @ np.concatenate([ends[:1], middles, ends[1:]]))

    def _z(self, y: Floats) -> torch.Tensor:
        return torch.from_numpy(self.targets(y)).float()


def draw_numbers(y: Floats, features: int, size: int, max_context: int, seed: int) -> Ensemble[NumberQuestion]:
    """Draw the members of an ensemble.

    Members are standardised and ranked in turn. After each round, the scaling of the targets changes between
    standardised and power-transformed.

    Args:
        y: Target of each row, ``(rows,)``.
        features: Number of columns.
        size: Number of members.
        max_context: Most context rows of a member; of more, each draws a sample of its own.
        seed: Seed of all random choices.
    """
    random = np.random.RandomState(seed)
    members: list[Member] = []
    questions: list[NumberQuestion] = []
    for index in range(size):
        members.append(Member((STANDARD, RANKS)[index % 2], random.permutation(features)))
        rows = np.arange(len(y)) if len(y) <= max_context else np.sort(random.permutation(len(y))[:max_context])
        questions.append(NumberQuestion(index, rows, TargetScale.of(y[rows], power=index // 2 % 2 == 1)))
    return Ensemble(members, questions)


def pooled(logits: NDArray[np.float32], questions: Sequence[NumberQuestion]) -> Mixture:
    """Mixture of the members' bar distributions; those of one scaling of the targets are averaged at once.

    Args:
        logits: Logits of each member, ``(members, rows, bars)``.
        questions: Their questions, in order.
    """
    groups: dict[TargetScale, list[int]] = {}
    for question in questions:
        groups.setdefault(question.targets, []).append(question.member)
    parts = []
    for targets, members in groups.items():
        shares = logsumexp(log_softmax(logits[members].astype(np.float64), axis=-1), axis=0)
        parts.append(BarTargets(torch.from_numpy(shares).float(), targets))
    return Mixture(parts, [len(members) / len(questions) for members in groups.values()])


def _double(found: torch.Tensor) -> Floats:
    return found.double().numpy()
