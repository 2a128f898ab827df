"""Layout of tasks for inference, against a loop over tasks."""

import math
from typing import Any

import pytest
import torch

from tabattn.contract.batches import PairBatch
from tabattn.contract.errors import DataError
from tabattn.pairs import InferenceOptions, lay_out
from tests.pairs.tasks import tasks


def naive(batch: PairBatch, item: int, count: int, order: bool = True) -> tuple[list[Any], list[Any]]:
    """Context and targets of one task of two sequences, the first of which is given."""
    x, y, member = batch.x[item].tolist(), batch.y[item].tolist(), batch.member[item].tolist()
    points = [(x[i], y[i], member[i]) for i in range(len(x)) if i >= batch.context or not math.isnan(y[i])]
    if order:
        points.sort()
    given = [point for point in points if point[2] == 0 and not math.isnan(point[1])]
    other = [point for point in points if point[2] != 0]
    shown = [point for point in other if not math.isnan(point[1])][:count]
    return given + shown, [point for point in other if point not in shown]


def triples(batch: PairBatch, item: int) -> list[Any]:
    return list(zip(batch.x[item].tolist(), batch.y[item].tolist(), batch.member[item].tolist(), strict=True))


@pytest.mark.parametrize("order", [True, False])
@pytest.mark.parametrize("count", [0, 3])
def test_layout_is_that_of_a_loop_over_tasks(order: bool, count: int) -> None:
    batch = tasks()
    laid = lay_out(batch, InferenceOptions(given_member=0, context_p=count, order=order))
    for item in range(3):
        context, targets = naive(batch, item, count, order)
        found = triples(laid, item)
        assert found[: len(context)] == context
        assert found[laid.context : laid.context + len(targets)] == targets
        rest = found[len(context) : laid.context] + found[laid.context + len(targets) :]
        assert all(math.isnan(y) for _, y, _ in rest)
        assert laid.padding is not None
        assert (~laid.padding[item]).sum() == len(context) + len(targets)
        assert not laid.padding[item, : len(context)].any()


def test_layout_knows_padding_from_targets_of_unknown_value() -> None:
    batch = tasks(items=1)
    y = batch.y.clone()
    y[0, 5], y[0, -1] = math.nan, math.nan
    member = batch.member.clone()
    member[0, -1] = 1
    batch = batch._replace(y=y, member=member)
    laid = lay_out(batch, InferenceOptions(given_member=0, context_p=2))
    places = laid.x[0].tolist()
    assert batch.x[0, 5].item() not in places
    assert batch.x[0, -1].item() in places[laid.context :]
    assert laid.y[0, : laid.context].isfinite().all()
    assert laid.y[0, laid.context :].isnan().sum() == 1


def test_num_steps_counts_targets_from_the_first_and_999_means_all() -> None:
    batch = tasks()
    whole = lay_out(batch, InferenceOptions(given_member=0, context_p=2))
    cut = lay_out(batch, InferenceOptions(given_member=0, context_p=2, num_steps=3))
    assert cut.x.shape[1] == cut.context + 3
    torch.testing.assert_close(cut.x, whole.x[:, : cut.context + 3])
    long = tasks(items=1, points=2100, context=4)
    assert lay_out(long, InferenceOptions(given_member=0, context_p=2)).x.shape[1] == 2100
    assert lay_out(long, InferenceOptions(given_member=0, context_p=2, num_steps=1000)).x.shape[1] < 2100


def test_random_context_comes_from_the_pool_in_order_and_nothing_is_lost() -> None:
    batch = tasks(items=40, points=30)
    options = InferenceOptions(given_member=0, context_p=3, consec=False, pool=16)
    laid = lay_out(batch, options, torch.Generator().manual_seed(0))
    again = lay_out(batch, options, torch.Generator().manual_seed(0))
    other = lay_out(batch, options, torch.Generator().manual_seed(1))
    first = lay_out(batch, InferenceOptions(given_member=0, context_p=3))
    assert torch.equal(laid.x, again.x)
    assert not torch.equal(laid.x, other.x)
    for item in range(40):
        known = [point for point in triples(laid, item)[: laid.context] if not math.isnan(point[1])]
        shown = [point[0] for point in known if point[2] == 1]
        assert shown == sorted(shown)
        assert len(shown) == 3
        assert max(shown) <= batch.x[item].sort().values[15]
        assert {x for x, y, _ in triples(laid, item) if not math.isnan(y)} == set(batch.x[item].tolist())
    assert not torch.equal(laid.x, first.x)


def test_without_context_p_the_batch_says_what_is_shown_and_a_whole_sequence_shows_a_quarter() -> None:
    x = torch.arange(16.0).expand(2, 16)
    member = (torch.arange(16) % 2).expand(2, 16).clone()
    batch = PairBatch(x, x.clone(), member, 12)
    laid = lay_out(batch, InferenceOptions(given_member=0))
    assert laid.x[0, laid.context :].tolist() == [13, 15]
    member[1] = torch.tensor([1] * 8 + [0] * 8)
    laid = lay_out(batch, InferenceOptions(given_member=0, num_steps=999))
    assert triples(laid, 1)[8:10] == [(0, 0, 1), (1, 1, 1)]
    assert [point[0] for point in triples(laid, 1)[laid.context :]] == [2, 3, 4, 5, 6, 7]


def test_more_sequences_than_two_each_show_their_own_points() -> None:
    batch = tasks(items=2, points=40, members=4)
    laid = lay_out(batch, InferenceOptions(context_p=1, given_member=2))
    for item in range(2):
        context = [point[2] for point in triples(laid, item)[: laid.context] if not math.isnan(point[1])]
        assert [context.count(number) for number in (0, 1, 3)] == [1, 1, 1]
        assert context[0] == 2
        assert 2 not in [point[2] for point in triples(laid, item)[laid.context :] if not math.isnan(point[1])]


def test_what_the_batch_shows_as_a_whole_is_given_whichever_sequences_these_are() -> None:
    x = torch.arange(12.0).expand(2, 12)
    y = x + 100
    # The first task infers sequence 0 from 1 and 2, the second sequence 2 from 0 and 1.
    member = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]])
    laid = lay_out(PairBatch(x, y, member, 9, task=torch.tensor([7, 5])), InferenceOptions())
    assert laid.context == 9
    assert laid.member[:, 9:].tolist() == [[0, 0, 0], [2, 2, 2]]
    assert laid.x.tolist() == x.tolist()
    assert laid.task is not None
    assert laid.task.tolist() == [7, 5]


def test_a_forecast_beyond_what_is_known_is_laid_out() -> None:
    x = torch.arange(8.0).expand(1, 8)
    y = torch.tensor([[0.0, 1, 2, 3, 4, 5, math.nan, math.nan]])
    laid = lay_out(PairBatch(x, y, torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0]]), 6), InferenceOptions())
    assert laid.x[0, laid.context :].tolist() == [6, 7]
    assert laid.member[0, laid.context :].tolist() == [0, 0]


def test_where_no_sequence_is_shown_as_a_whole_the_first_is_given() -> None:
    batch = tasks()
    given = lay_out(batch, InferenceOptions(given_member=0))
    torch.testing.assert_close(lay_out(batch, InferenceOptions())[:3], given[:3], equal_nan=True)


@pytest.mark.parametrize(("inferred", "given"), [((0, 1), []), ((1,), [0]), ((0,), [1])])
def test_where_no_sequence_is_shown_as_a_whole_those_are_given_that_the_data_does_not_infer(
    inferred: tuple[int, ...], given: list[int]
) -> None:
    batch = tasks()
    laid = lay_out(batch, InferenceOptions(), inferred=inferred)
    for item in range(3):
        asked = [point for point in triples(batch, item)[batch.context :] if point[2] in inferred]
        context = [point for point in triples(batch, item)[: batch.context] if point[2] in inferred]
        whole = [point for point in triples(batch, item) if point[2] in given]
        assert laid.padding is not None
        kept = ~laid.padding[item]
        found = [point for point, real in zip(triples(laid, item), kept.tolist(), strict=True) if real]
        assert found == sorted(whole) + sorted(context) + sorted(asked)


def test_padding_is_neither_shown_nor_asked_for() -> None:
    x = torch.arange(8.0).expand(2, 8)
    padding = torch.zeros(2, 8, dtype=torch.bool)
    padding[1, [3, 6, 7]] = True
    y = x.masked_fill(padding, math.nan)
    batch = PairBatch(x, y, torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]] * 2), 5, padding=padding)
    laid = lay_out(batch, InferenceOptions())
    assert laid.padding is not None
    assert laid.x[1, ~laid.padding[1]].tolist() == [0, 1, 2, 4, 5]
    assert laid.x[0, ~laid.padding[0]].tolist() == list(range(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"given_member": 5}, "given_member=5: no task of the batch has a known point"),
        ({"context_p": 500}, "context_p must be at most .*, as many known points as member 1 has, got 500"),
        ({"context_p": 9, "consec": False, "pool": 10}, "member 1 has among the first 10 of a task, got 9"),
    ],
)
def test_a_batch_that_cannot_be_laid_out_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        lay_out(tasks(), InferenceOptions(**options))


@pytest.mark.parametrize("number", [0, 1])
def test_the_rest_of_single_sequences_is_inferred_from_their_context(number: int) -> None:
    batch = tasks()
    single = batch._replace(member=torch.full_like(batch.member, number))
    laid = lay_out(single, InferenceOptions())
    assert laid.context == batch.context
    for item in range(3):
        points = triples(single, item)
        assert triples(laid, item) == sorted(points[: batch.context]) + sorted(points[batch.context :])
    first = lay_out(single, InferenceOptions(context_p=5, num_steps=4))
    assert [first.context, first.x.shape[1]] == [5, 9]
    torch.testing.assert_close(first.x, single.x.sort(1).values[:, :9], rtol=0, atol=0)


def test_a_sequence_alone_leaves_nothing_to_infer() -> None:
    batch = tasks()
    with pytest.raises(DataError, match="given_member=0: the batch has no other sequence to infer"):
        lay_out(batch._replace(member=torch.zeros_like(batch.member)), InferenceOptions(given_member=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": -1}, "samples must be at least 0, got -1"),
        ({"samples": 0, "mean": False}, "samples must be at least 1 where mean is false, got 0"),
        ({"context_p": -1}, "context_p must be at least 0, got -1"),
        ({"context_p": 121, "consec": False}, "context_p must be at most pool = 120, got 121"),
        ({"consec": False}, "context_p must be a number where consec is false"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"given_member": -1}, "given_member must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"pool": 0}, "pool must be at least 1, got 0"),
        ({"path": "back"}, "path must be given, left_to_right or random, got 'back'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InferenceOptions(**options)
