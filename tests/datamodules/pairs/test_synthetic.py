"""Synthetic pairs: counter-based, exact over ranks and workers, with the variance of their kind."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from datamodules import SyntheticPairs
from datamodules.counter import CounterLoader, RankSlice, generator
from datamodules.pairs import ProcessOptions
from datamodules.pairs.kinds import KINDS, draw_sizes
from tabattn.contract.batches import PairBatch
from tests.helpers import build

SMALL = {
    "points": (7, 7),
    "context": 3,
    "batch_size": 4,
    "steps_per_epoch": 4,
    "evaluation__val_batches": 2,
    "evaluation__test_batches": 3,
}


def same(a: PairBatch, b: PairBatch) -> bool:
    return a.context == b.context and all(torch.equal(p, q) for p, q in zip(a[:3], b[:3], strict=True))


def stream(rank: int = 0, world: int = 1, workers: int = 0, **changes: object) -> CounterLoader:
    whole = build(SyntheticPairs, **{**SMALL, **changes}).train_dataloader()
    return CounterLoader(whole.dataset, 4, rank, world, num_workers=workers)


def scored(**arguments: object) -> Iterator[PairBatch]:
    yield from build(SyntheticPairs, **arguments).test_dataloader()


def test_batches_do_not_depend_on_workers() -> None:
    assert all(same(a, b) for a, b in zip(stream(), stream(workers=2), strict=True))


def test_ranks_share_the_stream() -> None:
    whole = stream()
    merged = [batch for pair in zip(stream(0, 2), stream(1, 2), strict=True) for batch in pair]
    assert all(same(a, b) for a, b in zip(itertools.chain(whole, whole), merged, strict=True))


def test_ranks_share_what_is_scored() -> None:
    batches = build(SyntheticPairs, **SMALL).test_dataloader().dataset.items
    assert [len(RankSlice(batches, rank, 2)) for rank in range(2)] == [2, 1]
    assert same(RankSlice(batches, 1, 2)[0], batches[1])
    idle = RankSlice(batches, 3, 4)[0]
    assert idle.y[:, idle.context :].isnan().all()
    assert len(RankSlice(batches, 3, 4, together=False)) == 0


def test_tasks_differ_within_and_between_batches_and_splits() -> None:
    data = build(SyntheticPairs, **SMALL)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    firsts = [x for loader in loaders for batch in loader for x in batch.x[:, 0].tolist()]
    assert len(set(firsts)) == 4 * (4 + 2 + 3)
    assert not same(next(iter(stream())), next(iter(stream(seed=1))))


def test_a_task_does_not_depend_on_the_size_of_its_batch() -> None:
    few, many = (next(scored(**{**SMALL, "batch_size": size})) for size in (2, 5))
    torch.testing.assert_close(few.x, many.x[:2], rtol=0, atol=0)
    torch.testing.assert_close(few.y, many.y[:2])


def test_values_do_not_depend_on_the_regime() -> None:
    ahead, between = (next(scored(**SMALL, evaluation__test_regime=regime)) for regime in ("forecast", "interp"))
    assert not same(ahead, between)
    by_place = [batch.y.gather(1, batch.x.argsort(1)) for batch in (ahead, between)]
    torch.testing.assert_close(*by_place, rtol=0, atol=0)


def test_batches_keep_their_types_through_a_loader() -> None:
    batch = next(scored(**SMALL))
    assert isinstance(batch, PairBatch)
    assert [part.dtype for part in batch[:3]] == [torch.float32, torch.float32, torch.long]
    assert batch.context == 10
    assert [tuple(part.shape) for part in batch.oracle] == [(4, 4), (4, 4), (4,)]
    assert all(part.dtype == torch.float32 for part in batch.oracle)
    assert next(iter(stream())).oracle is None


@pytest.mark.parametrize("kind", KINDS)
def test_values_spread_as_the_scaling_says(kind: str) -> None:
    few = {} if kind == "tnp" else {"points": (12,) * KINDS[kind].members, "context": 4}
    data = build(SyntheticPairs, kind=kind, batch_size=32, evaluation__test_batches=8, **few)
    values = torch.cat([batch.y.flatten() for batch in data.test_dataloader()])
    assert data.scaling.y_mean == 0
    assert float(values.std()) == pytest.approx(data.scaling.y_std, rel=0.15)
    places = torch.cat([batch.x.flatten() for batch in data.test_dataloader()])
    assert data.scaling.x_low <= float(places.min()) < float(places.max()) <= data.scaling.x_high
    assert torch.isfinite(values).all()


def test_a_label_says_nothing_of_which_sequence_is_above() -> None:
    batch = next(scored(kind="rbf_const_2D", points=(20, 20), context=5, batch_size=200))
    means = [(batch.y * (batch.member == member)).sum(1) / 20 for member in range(2)]
    assert 0.4 < float((means[0] > means[1]).float().mean()) < 0.6


def test_an_option_of_zero_is_one_that_is_given() -> None:
    data = SyntheticPairs("const", process=ProcessOptions(eps=0.0, shift=0.0))
    assert (data.plan.eps, data.plan.shift) == (0.0, 0.0)


def test_functions_of_different_tasks_have_nothing_in_common() -> None:
    batch = next(
        scored(kind="single_rbf", points=(100,), context=50, batch_size=40, evaluation__test_regime="forecast")
    )
    between = np.corrcoef(batch.y.gather(1, batch.x.argsort(1)).numpy())[np.triu_indices(40, 1)]
    assert abs(between.mean()) < 0.05
    assert (between > 0.9).mean() < 0.02


def test_sizes_of_the_single_protocol() -> None:
    shapes = [draw_sizes(KINDS["tnp"], generator(0, i)) for i in range(2000)]
    contexts = {context for _, context in shapes}
    assert contexts == set(range(3, 47))
    assert {points for (points,), context in shapes if context == 46} == {49}
    assert {points - context for (points,), context in shapes} == set(range(3, 47))
    for batch in scored(kind="tnp", batch_size=2, evaluation__test_batches=5):
        assert 3 <= batch.context <= batch.x.shape[1] - 3 <= 46


def test_points_of_either_sequence_by_chance() -> None:
    data = build(
        SyntheticPairs, kind="rbf_rbf_2D", points=(10, 10), context=6, batch_size=2, evaluation__test_batches=20
    )
    batches = list(data.test_dataloader())
    assert {batch.x.shape[1] for batch in batches} == {20}
    assert len({batch.context for batch in batches}) > 2
    assert all(((batch.member == 1).sum(1) == 26 - batch.context).all() for batch in batches)


def test_roles_are_swapped_when_asked() -> None:
    kept, swapped = (next(scored(**{**SMALL, "batch_size": 20}, swap_roles=swap)) for swap in (False, True))
    assert (kept.member[:, -1] == 1).all()
    assert set(swapped.member[:, -1].tolist()) == {0, 1}
    unequal = list(scored(**{**SMALL, "points": (7, 9), "evaluation__test_batches": 12}, swap_roles=True))
    assert {batch.context for batch in unequal} == {10, 12}
    assert all(torch.equal(batch.member[:, -1], batch.member[:1, -1].expand(4)) for batch in unequal)


@pytest.mark.parametrize("kind", ["const", "rbf", "icm", "copy"])
def test_more_than_two_sequences(kind: str) -> None:
    data = build(SyntheticPairs, kind=kind, points=(5, 6, 7), context=2, batch_size=3)
    batch = next(iter(data.test_dataloader()))
    assert data.members == 3
    assert batch.context == 5 + 6 + 2
    assert batch.member[0].bincount().tolist() == [5, 6, 7]
    assert torch.isfinite(batch.oracle.joint).all()


def test_context_may_vary_in_training_alone() -> None:
    data = build(
        SyntheticPairs, **{**SMALL, "context": (1, 6), "steps_per_epoch": 40}, evaluation__context=3, regime="forecast"
    )
    assert {batch.context for batch in data.train_dataloader()} == set(range(8, 14))
    assert {batch.context for batch in data.val_dataloader()} == {10}


@pytest.mark.parametrize("regime", ["forecast", "interp", "shuffle", "full_infer"])
@pytest.mark.parametrize(("kind", "points"), [("single_rbf", (30,)), ("const", (30, 30)), ("rbf_rbf_2D", (30, 30))])
def test_points_beyond_the_axis_are_inferred_in_the_test_alone(kind: str, points: tuple[int, ...], regime: str) -> None:
    """As the first system's split: the last 19 points lie between 15.1 and 20, those of training up to 15."""
    data = build(
        SyntheticPairs,
        kind=kind,
        points=points,
        context=5,
        batch_size=20,
        process__eps=0.1,
        evaluation__beyond=19,
        evaluation__test_regime=regime,
        evaluation__test_batches=2,
        steps_per_epoch=2,
    )
    for batch in (*data.test_dataloader(), *data.predict_dataloader()):
        beyond = batch.x > 15
        for member in range(len(points)):
            assert ((beyond & (batch.member == member)).sum(1) <= 19).all()
            if kind != "rbf_rbf_2D":
                assert ((beyond & (batch.member == member)).sum(1) == 19).all()
        assert (batch.x >= 5).all()
        assert 15.1 <= batch.x[beyond].min() < 15.5 < 19.5 < batch.x[beyond].max() < 20
        inferred = batch.member[:, -1:]
        seen = beyond[:, : batch.context] & ((batch.member[:, : batch.context] == inferred) | (regime == "shuffle"))
        assert not seen.any()
    for batch in (*data.val_dataloader(), *data.train_dataloader()):
        assert batch.x.max() <= 15


def test_what_lies_on_the_axis_does_not_depend_on_what_lies_beyond() -> None:
    one, other = (next(scored(**SMALL, evaluation__beyond=beyond)) for beyond in (0, 4))
    inside = other.x <= 15
    assert torch.isin(other.x[inside], one.x).all()
    assert int(inside[0].sum()) == 14 - 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cosnt"}, "kind must be one of const, rbf, .*, got 'cosnt'"),
        ({"points": (8, 1)}, r"points must be at least 2 of each sequence, got \[8, 1\]"),
        ({"context": 40}, "context must be at most 31 of 32 points, got 40"),
        ({"evaluation__context": 32}, "context must be at most 31 of 32 points, got 32"),
        ({"context": 0}, r"context must be two numbers, 1 <= fewest <= most, got \[0, 0\]"),
        ({"kind": "tnp", "points": (20,)}, "context must be at most 17 of 20 points, got 46"),
        ({"process__x_range": (2.0, 2.0)}, r"x_range must be two numbers, lowest < highest, got \[2.0, 2.0\]"),
        ({"process__eps": -1.0}, "eps must be at least 0, got -1.0"),
        ({"process__length": (0.0, 1.0)}, "length must be above 0, got 0.0"),
        ({"process__amplitude": (2.0, 1.0)}, r"amplitude must be two numbers, smallest <= largest, got \[2.0, 1.0\]"),
        ({"process__correlation": (-2.0, 1.0)}, r"correlation must be within \[-1, 1\], got \[-2.0, 1.0\]"),
        ({"process__kernel": "linear"}, "kernel must be one of rbf, matern32, matern52, periodic, got 'linear'"),
        ({"regime": "forcast"}, "regime must be of shuffle, .*, mix, got forcast"),
        ({"evaluation__test_regime": "foo"}, "test_regime must be of .*, got foo"),
        ({"kind": "icm", "points": (9, 9, 9), "evaluation__oracle": "marginal"}, "at most 2 unknowns .*, got 4"),
        ({"kind": "tnp", "points": (49, 49)}, r"points must be one number for single sequences, got \[49, 49\]"),
        ({"kind": "single_rbf", "points": (24, 24)}, r"points must be one number for single sequences, got \[24, 24\]"),
        ({"kind": "single_noise", "points": (9, 9, 9)}, r"one number for single sequences, got \[9, 9, 9\]"),
        ({"kind": "single_rbf", "process__correlation": (0.0, 0.5)}, "correlation says nothing of kind single_rbf"),
        ({"evaluation__oracle": "guess"}, "oracle must be one of known, marginal, got 'guess'"),
        ({"kind": "icm", "process__shift": 1.0}, "shift says nothing of kind icm with kernel rbf, got 1.0"),
        ({"kind": "const", "process__correlation": (0.0, 0.5)}, "correlation says nothing of kind const"),
        ({"kind": "icm", "points": (9,), "process__correlation": (0.0, 0.5)}, "correlation says nothing of kind icm"),
        ({"kind": "icm", "process__period": (1.0, 2.0)}, "period says nothing of kind icm with kernel rbf"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"evaluation__beyond": -1}, "evaluation.beyond must be at least 0, got -1"),
        ({"evaluation__beyond": 25}, "evaluation.beyond must be at most 24, the points of a sequence .*, got 25"),
        ({"cache__batches": 3}, "cache.batches needs a cache.file to keep them in, got 3 and none"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(SyntheticPairs, **arguments)


def test_nothing_is_worked_out_for_predictions_that_they_do_not_use() -> None:
    data = build(SyntheticPairs, **SMALL)
    for tested, predicted in zip(data.test_dataloader(), data.predict_dataloader(), strict=True):
        assert same(tested, predicted)
        assert tested.oracle is not None
        assert predicted.oracle is None
