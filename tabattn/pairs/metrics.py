"""Metrics of predictive densities of sequences, as sums that are exact over ranks."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Distribution
from torchmetrics import Metric

from tabattn.contract.batches import PairBatch
from tabattn.nn.densities import crps

REACHES = (0.02, 0.1, 0.3)
"""Upper bounds of the distance buckets, as shares of the axis."""
BUCKETS = ("adjacent", "near", "mid", "far")
SUMS = ("count", "ll", "error", "crps", "inside50", "inside90", "y", "yy")
"""Names of the sums over targets that are kept for each member and each bucket."""
LEVELS = (0.5, 0.9)
EDGE = 1e-5
"""Distance from the axis, as a share of it, beyond which a target lies beyond the axis."""


class PairScores(Metric):
    """Metric of predictive densities; its states are sums, so the result is the same on any number of ranks.

    Args:
        members: Largest number of sequences in a task.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = members
        shapes = {
            "sums": (len(SUMS), members, len(BUCKETS)),
            "first": (2,),
            "first_best": (2,),
            "rows": (2, members),
            "chained": (2,),
            "best": (5,),
            "walked": (4,),
            "ranged": (4, 2),
        }
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.sums: Tensor
        self.first: Tensor
        self.first_best: Tensor
        self.rows: Tensor
        self.chained: Tensor
        self.best: Tensor
        self.walked: Tensor
        self.ranged: Tensor

    def update(
        self, batch: PairBatch, given: Distribution, chain: Distribution | None, axis: tuple[float, float]
    ) -> None:
        """Add the targets of a batch.

        Args:
            batch: The tasks.
            given: Density of each target given the context, ``(batch, targets)``.
            chain: Density of each target given the context and the targets before it; None = not computed.
            axis: Ends of the axis of training, by whose length distances are divided.
        """
        y = batch.y[:, batch.context :]
        scored = y.isfinite()
        y = torch.where(scored, y, 0.0)
        ll, error = given.log_prob(y).double(), (given.mean - y).double().square()
        place = given.cdf(y)
        inside = [((place - 0.5).abs() <= level / 2).double() for level in LEVELS]
        values = y.double()
        each = torch.stack([torch.ones_like(ll), ll, error, crps(given, y).double(), *inside, values, values.square()])
        group = batch.member[:, batch.context :] * len(BUCKETS) + self._bucket(batch, axis[1] - axis[0])
        self.sums.view(len(SUMS), -1).index_add_(1, group[scored], each[:, scored])
        self._add_tasks(values, error, scored, batch.member[:, batch.context :])
        if chain is not None:
            self.chained += torch.stack([scored.sum(), chain.log_prob(y).double()[scored].sum()])
        best = None
        if batch.oracle is not None:
            best = batch.oracle.log_density.double(), (batch.oracle.mean - y).double().square()
            complete = scored.all(1)
            joint = batch.oracle.joint.double()[complete].sum()
            figures = [scored.sum(), best[0][scored].sum(), best[1][scored].sum(), complete.sum() * y.shape[1], joint]
            self.best += torch.stack(figures)
            self.first_best += _first(best[1], scored)
        ranged = torch.stack([torch.ones_like(ll), ll, error, torch.zeros_like(ll) if best is None else best[0]])
        self.ranged.index_add_(1, _beyond(batch, axis)[scored].long(), ranged[:, scored])

    def add_trajectories(self, y: Tensor, once: Tensor, mean: Tensor, sample: Tensor) -> None:
        """Add tasks whose targets were predicted autoregressively, one after another.

        Args:
            y: True values of the targets, ``(batch, targets)``; NaN = not scored.
            once: Predicted means of a single pass, given the context alone.
            mean: Trajectory of means: each prediction conditions on the means before it.
            sample: Sampled trajectory: each prediction conditions on the samples before it.
        """
        scored = y.isfinite()
        errors = [(values - y).double().square()[scored].sum() for values in (once, mean, sample)]
        self.walked += torch.stack([scored.sum(), *errors])

    def _bucket(self, batch: PairBatch, span: float) -> Tensor:
        """Bucket of each target's distance to the nearest known point of its member, ``(batch, targets)``."""
        (known_x, x), (known_member, member) = (
            part.tensor_split([batch.context], dim=1) for part in (batch.x, batch.member)
        )
        readable = (member[..., None] == known_member[:, None]) & batch.y[:, None, : batch.context].isfinite()
        distance = (x[..., None] - known_x[:, None]).abs().masked_fill(~readable, torch.inf)
        nearest = distance.amin(2) if batch.context else torch.full_like(x, torch.inf)
        return torch.bucketize(nearest / span, torch.tensor(REACHES, device=x.device, dtype=x.dtype))

    def _add_tasks(self, y: Tensor, error: Tensor, scored: Tensor, member: Tensor) -> None:
        """Add the error of each task's first target, and the explained variance of each of its members."""
        self.first += _first(error, scored)
        # Targets of each member: (batch, members, targets).
        of_member = (member[:, None] == torch.arange(self.members, device=y.device)[:, None]) & scored[:, None]
        y, error = (part[:, None].expand_as(of_member) for part in (y, error))
        centre = torch.where(of_member, y, 0.0).sum(2, keepdim=True) / of_member.sum(2, keepdim=True).clamp(min=1)
        spread = torch.where(of_member, y - centre, 0.0).square().sum(2)
        not_constant = spread > 0
        explained = 1 - torch.where(of_member, error, 0.0).sum(2) / spread.where(not_constant, 1.0)
        self.rows += torch.stack([not_constant.sum(0), explained.where(not_constant, 0.0).sum(0)])

    def compute(self) -> dict[str, float]:
        """Compute all metrics by name; NaN where nothing was scored."""
        sums = dict(zip(SUMS, self.sums, strict=True))
        total = {name: part.sum() for name, part in sums.items()}
        count = total["count"]
        figures = {
            "ll": total["ll"] / count,
            "mse": total["error"] / count,
            "rmse": (total["error"] / count).sqrt(),
            "rmse_first": (self.first[1] / self.first[0]).sqrt(),
            "r2": _explained(total),
            "r2_row": self.rows[1].sum() / self.rows[0].sum(),
            "crps": total["crps"] / count,
            "coverage50": total["inside50"] / count,
            "coverage90": total["inside90"] / count,
        }
        if self.chained[0]:
            figures["ll_joint"] = self.chained[1] / self.chained[0]
        if self.walked[0]:
            roots = (self.walked[1:] / self.walked[0]).sqrt()
            figures |= zip(("rmse_chain_once", "rmse_chain", "rmse_chain_sample"), roots, strict=True)
        if self.best[0]:
            figures["ll_oracle"] = self.best[1] / self.best[0]
            figures["mse_oracle"] = self.best[2] / self.best[0]
            figures["rmse_first_oracle"] = (self.first_best[1] / self.first_best[0]).sqrt()
            figures["gap"] = figures["ll_oracle"] - figures["ll"]
        if self.best[3]:
            figures["ll_joint_oracle"] = self.best[4] / self.best[3]
        figures |= dict(self._parts(sums))
        return {name: figure.item() for name, figure in figures.items()}

    def _parts(self, sums: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Figures of each member with targets, of each non-empty bucket, if there are several, and beyond the axis."""
        for index in range(self.members):
            own = {name: part[index].sum() for name, part in sums.items()}
            if own["count"]:
                yield from _means(f"member{index}", own)
                yield f"member{index}/r2", _explained(own)
                yield f"member{index}/r2_row", self.rows[1, index] / self.rows[0, index]
        buckets = [{name: part[:, index].sum() for name, part in sums.items()} for index in range(len(BUCKETS))]
        if sum(bool(bucket["count"]) for bucket in buckets) > 1:
            for name, bucket in zip(BUCKETS, buckets, strict=True):
                if bucket["count"]:
                    yield from _means(name, bucket)
        if self.ranged[0, 1]:
            for name, (count, ll, error, best) in zip(("inside", "beyond"), self.ranged.unbind(1), strict=True):
                if count:
                    yield from _means(name, {"count": count, "ll": ll, "error": error})
                    if self.best[0]:
                        yield f"{name}/ll_oracle", best / count


def _beyond(batch: PairBatch, axis: tuple[float, float]) -> Tensor:
    """Mask of the targets that lie beyond the axis of training, ``(batch, targets)``."""
    x, edge = batch.x[:, batch.context :], EDGE * (axis[1] - axis[0])
    return (x < axis[0] - edge) | (x > axis[1] + edge)


def _means(name: str, sums: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}/ll", sums["ll"] / sums["count"]
    yield f"{name}/mse", sums["error"] / sums["count"]


def _explained(sums: dict[str, Tensor]) -> Tensor:
    """Share of the variance of the targets that predictions explain."""
    return 1 - sums["error"] / (sums["yy"] - sums["y"] ** 2 / sums["count"])


def _first(error: Tensor, scored: Tensor) -> Tensor:
    """Number of tasks with a scored target, and the sum of the errors of the first such targets."""
    any_scored = scored.any(1)
    first = error.gather(1, scored.int().argmax(1, keepdim=True))[:, 0]
    return torch.stack([any_scored.sum(), first[any_scored].sum()])
