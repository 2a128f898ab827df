"""Ensemble members of the regressor: the same table under other scalings of columns and targets, and other orders."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from tabattn.contract.columns import Floats
from tabattn.prior.estimator.distributions import BarTargets, Mixture
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
        return self.targets.labels(y[self.rows]).astype(np.float32)


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
