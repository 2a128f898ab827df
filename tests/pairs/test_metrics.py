"""Metrics of pairs, against their definitions target by target, and exact over ranks."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from tabattn.contract.batches import Oracle, PairBatch
from tabattn.pairs.metrics import BUCKETS, REACHES, PairScores

SPAN = 4.0
AXIS = 0.0, SPAN


def drawn(tasks: int = 5, context: int = 6, targets: int = 7, seed: int = 0) -> tuple[PairBatch, Normal, Normal]:
    """Random tasks with unknown values in both parts, and random densities."""
    source = torch.Generator().manual_seed(seed)
    points = context + targets
    x = torch.rand(tasks, points, generator=source) * SPAN
    y = torch.randn(tasks, points, generator=source)
    y[0, 1] = y[1, context] = y[2, -1] = math.nan
    member = torch.randint(0, 2, (tasks, points), generator=source)

    def density() -> Normal:
        return Normal(torch.randn(tasks, targets, generator=source), 0.2 + torch.rand(tasks, targets, generator=source))

    best = density()
    known = y[:, context:].nan_to_num()
    oracle = Oracle(best.mean, best.log_prob(known), best.log_prob(known).sum(1))
    return PairBatch(x, y, member, context, oracle), density(), density()


def scored(batch: PairBatch) -> list[tuple[int, int]]:
    y = batch.y[:, batch.context :]
    return [(task, target) for task in range(len(y)) for target in range(y.shape[1]) if y[task, target].isfinite()]


def integrated_crps(given: Normal, y: Tensor) -> Tensor:
    """The squared distance of the distribution function from a step at the value, summed over a fine grid."""
    grid = torch.linspace(-12.0, 12.0, 24_001, dtype=torch.float64)
    wide = Normal(given.mean.double()[..., None], given.stddev.double()[..., None])
    return torch.trapezoid((wide.cdf(grid) - (grid >= y[..., None]).double()).square(), grid)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def figures(*parts: tuple[PairBatch, Normal, Normal]) -> dict[str, float]:
    metric = PairScores(members=2)
    for batch, given, chain in parts:
        metric.update(batch, given, chain, AXIS)
    return metric.compute()


def test_figures_are_means_over_targets() -> None:
    batch, given, chain = drawn()
    found = figures((batch, given, chain))
    y = batch.y[:, batch.context :]
    places = scored(batch)

    def each(values: Tensor) -> float:
        return mean([values[place].item() for place in places])

    error = (given.mean - y).square()
    assert found["ll"] == pytest.approx(each(given.log_prob(y.nan_to_num())), rel=1e-6)
    assert found["ll_joint"] == pytest.approx(each(chain.log_prob(y.nan_to_num())), rel=1e-6)
    assert found["mse"] == pytest.approx(each(error), rel=1e-6)
    assert found["rmse"] == pytest.approx(math.sqrt(each(error)), rel=1e-6)
    values = [y[place].item() for place in places]
    spread = sum((value - mean(values)) ** 2 for value in values)
    assert found["r2"] == pytest.approx(1 - each(error) * len(places) / spread, rel=1e-6)
    assert found["crps"] == pytest.approx(each(integrated_crps(given, y)), rel=1e-4)
    inside = ((y - given.mean) / given.stddev).abs()
    for level, width in ((50, 0.67448975), (90, 1.6448536)):
        assert found[f"coverage{level}"] == pytest.approx(each((inside < width).float()))
    assert batch.oracle is not None
    assert found["ll_oracle"] == pytest.approx(each(batch.oracle.log_density), rel=1e-6)
    assert found["gap"] == pytest.approx(found["ll_oracle"] - found["ll"], rel=1e-6)
    assert found["mse_oracle"] == pytest.approx(each((batch.oracle.mean - y).square()), rel=1e-6)
    whole = [0, 3, 4]
    joint = sum(batch.oracle.joint[task].item() for task in whole) / (len(whole) * y.shape[1])
    assert found["ll_joint_oracle"] == pytest.approx(joint, rel=1e-6)


def test_first_target_and_rows() -> None:
    batch, given, chain = drawn()
    found = figures((batch, given, chain))
    y = batch.y[:, batch.context :]
    assert batch.oracle is not None
    firsts, best = [], []
    shares: dict[int, list[float]] = {0: [], 1: []}
    for task in range(len(y)):
        kept = y[task].isfinite()
        firsts.append((given.mean[task] - y[task])[kept][0].item() ** 2)
        best.append((batch.oracle.mean[task] - y[task])[kept][0].item() ** 2)
        for member in (0, 1):
            own = kept & (batch.member[task, batch.context :] == member)
            if own.sum() > 1:
                missed = (given.mean[task] - y[task])[own].square().sum().item()
                shares[member].append(1 - missed / (y[task][own] - y[task][own].mean()).square().sum().item())
    assert found["rmse_first"] == pytest.approx(mean(firsts) ** 0.5, rel=1e-6)
    assert found["rmse_first_oracle"] == pytest.approx(mean(best) ** 0.5, rel=1e-6)
    assert min(map(len, shares.values())) > 2
    assert found["r2_row"] == pytest.approx(mean(shares[0] + shares[1]), rel=1e-5)
    for member, own in shares.items():
        assert found[f"member{member}/r2_row"] == pytest.approx(mean(own), rel=1e-5)


def test_each_member_with_targets_has_figures_of_its_own() -> None:
    """Its explained variance is that of its targets alone; that of a member without targets is not logged."""
    batch, given, chain = drawn()
    found = figures((batch, given, chain))
    y = batch.y[:, batch.context :]
    for member in (0, 1):
        own = y.isfinite() & (batch.member[:, batch.context :] == member)
        error = (given.mean - y)[own].square().sum().item()
        spread = (y[own] - y[own].mean()).square().sum().item()
        assert found[f"member{member}/r2"] == pytest.approx(1 - error / spread, rel=1e-5)
    member = batch.member.clone()
    member[:, batch.context :] = 1
    only = figures((batch._replace(member=member), given, chain))
    for name in ("ll", "mse", "r2"):
        assert only[f"member1/{name}"] == pytest.approx(only[name])
    assert not any(name.startswith("member0/") for name in only)


def test_levels_of_members_explain_no_variance_within_them() -> None:
    x = torch.linspace(0.0, SPAN, 8).expand(3, 8)
    member = torch.tensor([0, 1]).repeat(4).expand(3, 8)
    height = 20.0 * member - 10
    y = height + torch.tensor([-1.0, -1, 1, 1]).repeat(2)
    only = Normal(height[:, 4:], torch.ones(3, 4))
    found = figures((PairBatch(x, y, member, 4, None), only, only))
    assert found["r2_row"] == pytest.approx(0.0, abs=1e-9)
    assert found["r2"] == pytest.approx(1 - 1 / 101, rel=1e-6)


def test_parts_by_member_and_by_distance() -> None:
    batch, given, chain = drawn()
    found = figures((batch, given, chain))
    groups: dict[str, list[float]] = {}
    ll = given.log_prob(batch.y[:, batch.context :].nan_to_num())
    for task, target in scored(batch):
        point = batch.context + target
        reach = [
            abs(batch.x[task, point] - batch.x[task, other]).item() / SPAN
            for other in range(batch.context)
            if batch.member[task, other] == batch.member[task, point] and batch.y[task, other].isfinite()
        ]
        bucket = sum(min(reach, default=math.inf) > end for end in REACHES)
        for name in (BUCKETS[bucket], f"member{batch.member[task, point]}"):
            groups.setdefault(name, []).append(ll[task, target].item())
    assert len(groups) > 3
    for name, values in groups.items():
        assert found[f"{name}/ll"] == pytest.approx(mean(values), rel=1e-6), name
    assert {name.partition("/")[0] for name in found if name.endswith("/ll")} == set(groups)


def test_parts_add_up_to_the_whole() -> None:
    """What several processes see, summed, is what one process sees: the states are sums."""
    parts = [drawn(seed=seed, targets=3 + seed) for seed in range(3)]
    whole = figures(*parts)
    summed = PairScores(members=2)
    summed.update(*parts[0], AXIS)
    for part in parts[1:]:
        other = PairScores(members=2)
        other.update(*part, AXIS)
        for name in other._reductions:
            setattr(summed, name, getattr(summed, name) + getattr(other, name))
    assert {reduction.__name__ for reduction in summed._reductions.values()} == {"dim_zero_sum"}
    assert summed.compute() == pytest.approx(whole, rel=1e-9)


def test_trajectories_are_scored_beside_one_pass() -> None:
    """Root mean squares over the known targets of all tasks that were added, whatever their number."""
    metric = PairScores(members=2)
    y = torch.tensor([[1.0, 2.0, math.nan], [0.0, 0.0, 0.0]])
    off = torch.tensor([[3.0, -3.0, math.nan], [3.0, 3.0, -3.0]])
    metric.add_trajectories(y, y + off / 3, y + off, y - 2 * off)
    metric.add_trajectories(y[:1, :1], y[:1, :1], y[:1, :1], y[:1, :1])
    metric.update(*drawn(), AXIS)
    found = metric.compute()
    wanted = {"rmse_chain_once": (5 / 6) ** 0.5, "rmse_chain": (45 / 6) ** 0.5, "rmse_chain_sample": (180 / 6) ** 0.5}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    assert not any(name.startswith("rmse_chain") for name in figures(drawn()))


def test_points_without_value_change_nothing() -> None:
    batch, given, _ = drawn()
    metric = PairScores(members=2)
    metric.update(batch._replace(oracle=None), given, None, AXIS)
    assert (
        not {"ll_joint", "ll_oracle", "gap", "mse_oracle", "rmse_first_oracle", "ll_joint_oracle"}
        & metric.compute().keys()
    )


def test_nothing_to_score_is_not_a_number() -> None:
    batch, given, chain = drawn()
    assert math.isnan(figures((batch.unscored(), given, chain))["ll"])


def test_constant_targets_have_no_explained_variance() -> None:
    batch, given, chain = drawn(tasks=5)
    y = batch.y.clone()
    y[0, batch.context :] = 1.5
    y[1] = batch.y[3]
    alone = batch._replace(x=batch.x[1:], y=y[1:], member=batch.member[1:], oracle=None)
    only = Normal(given.mean[1:], given.stddev[1:])
    both = figures((batch._replace(y=y, oracle=None), given, chain))
    assert both["r2_row"] == pytest.approx(figures((alone, only, only))["r2_row"], rel=1e-6)


def test_targets_beyond_the_axis_are_scored_apart() -> None:
    batch, given, chain = drawn()
    assert not any(name.startswith(("inside", "beyond")) for name in figures((batch, given, chain)))
    metric = PairScores(members=2)
    metric.update(batch, given, None, (1.0, 3.0))
    metric.update(batch, given, None, (1.0, 3.0))
    found = metric.compute()
    x, y = batch.x[:, batch.context :], batch.y[:, batch.context :]
    assert batch.oracle is not None
    for name, wanted in (("inside", (x >= 1) & (x <= 3)), ("beyond", (x < 1) | (x > 3))):
        places = [(task, target) for task, target in scored(batch) if wanted[task, target]]
        lls = given.log_prob(y.nan_to_num())
        assert found[f"{name}/ll"] == pytest.approx(mean([lls[place].item() for place in places]))
        errors = (given.mean - y).square()
        assert found[f"{name}/mse"] == pytest.approx(mean([errors[place].item() for place in places]))
        best = batch.oracle.log_density
        assert found[f"{name}/ll_oracle"] == pytest.approx(mean([best[place].item() for place in places]))
    metric.reset()
    metric.update(batch._replace(oracle=None), given, None, (1.0, 3.0))
    assert "beyond/ll_oracle" not in metric.compute()
