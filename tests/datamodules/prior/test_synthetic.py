"""Synthetic prior: counter-based, balanced, exact over ranks and resumptions."""

import itertools

import pytest
import torch

from datamodules import SyntheticPrior
from datamodules.counter import CounterLoader, generator
from datamodules.prior.scm import draw_table
from datamodules.prior.scm_options import ColumnOptions, NetworkOptions, ScmOptions
from tabattn.contract.batches import TableBatch
from tests.helpers import build

SMALL = {"batch_size": 3, "steps_per_epoch": 4, "rows": (12, 20), "features": (2, 4)}


def same(a: TableBatch, b: TableBatch) -> bool:
    return a.context == b.context and torch.equal(a.y, b.y) and torch.equal(a.x.nan_to_num(9), b.x.nan_to_num(9))


def stream(rank: int = 0, world: int = 1, **changes: int) -> CounterLoader:
    whole = SyntheticPrior(**{**SMALL, **changes}).train_dataloader()
    return CounterLoader(whole.dataset, 4, rank, world, num_workers=changes.get("num_workers", 0))


def test_generator_mixes_its_counters() -> None:
    draws = [
        torch.rand((), generator=generator(*counters)).item() for counters in itertools.product(range(5), repeat=2)
    ]
    assert len(set(draws)) == 25
    assert generator(3, 4).initial_seed() == generator(3, 4).initial_seed()


@pytest.mark.parametrize("classes", [2, 5])
def test_a_table_holds_its_classes_on_both_sides(classes: int) -> None:
    for task in range(20):
        table = draw_table(60, 7, classes, 40, generator(0, task))
        assert table.x.shape == (60, 7)
        assert table.y[:40].unique().tolist() == table.y[40:].unique().tolist() == list(range(classes))
        assert table.x[torch.isfinite(table.x)].abs().max() < 1e5


def test_missing_cells_come_when_asked() -> None:
    tables = [
        draw_table(40, 5, 2, 30, generator(1, i), ScmOptions(columns=ColumnOptions(missing=1.0))) for i in range(5)
    ]
    assert all(table.x.isnan().any() for table in tables)
    tables = [
        draw_table(40, 5, 2, 30, generator(1, i), ScmOptions(columns=ColumnOptions(missing=0.0))) for i in range(5)
    ]
    assert all(torch.isfinite(table.x).all() for table in tables)


def test_a_table_too_small_for_its_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="5 classes need at least 5 context and 5 target rows, got 4 and 36"):
        draw_table(40, 5, 5, 4, generator(0))


def test_batches_do_not_depend_on_workers() -> None:
    assert all(same(a, b) for a, b in zip(stream(), stream(num_workers=2), strict=True))


def test_ranks_share_the_stream() -> None:
    whole = stream()
    firsts, seconds = stream(0, 2), stream(1, 2)
    merged = [batch for pair in zip(firsts, seconds, strict=True) for batch in pair]
    assert all(same(a, b) for a, b in zip(itertools.chain(whole, whole), merged, strict=True))


def test_a_restart_goes_on_where_it_was() -> None:
    whole = [*(loader := stream()), *loader]
    first = stream()
    begun = list(itertools.islice(first, 3))
    second = stream()
    second.load_state_dict(first.state_dict())
    assert all(same(a, b) for a, b in zip(whole, [*begun, *second], strict=False))
    assert not same(whole[0], whole[4])


def test_large_tables_come_in_smaller_batches() -> None:
    data = build(SyntheticPrior, **SMALL, batches__max_cells=100)
    sizes = [batch.x.numel() for batch in data.train_dataloader()]
    assert max(sizes) <= 100


def test_folds_to_validate_and_to_test_on_cover_each_table_once() -> None:
    data = build(SyntheticPrior, **SMALL, tables=("sklearn:iris", "sklearn:wine"), evaluation__folds=3)
    data.setup("validate")
    batches = [*data.val_dataloader(), *data.test_dataloader()]
    assert data.tables == ("iris", "wine")
    assert sum(batch.y.shape[1] - batch.context for batch in batches) == 150 + 178
    assert all(batch.y.shape[1] == (150, 178)[int(batch.table)] for batch in batches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": (9, 5)}, r"rows must be two numbers, 4 <= fewest <= most, got \[9, 5\]"),
        ({"classes": (1, 5)}, r"classes must be two numbers, 2 <= fewest <= most, got \[1, 5\]"),
        ({"batches__grow": -5}, "grow must be at least 0, got -5"),
        ({"classes": (10, 10), "rows": (30, 40)}, "rows must be at least 60 to hold 10 classes, got 30"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"tables": ("sklearn:irsi",)}, "no table is called 'sklearn:irsi'"),
        ({"context": (0.8, 0.2)}, "context"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(SyntheticPrior, **arguments)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"trees must be in \[0, 1\], got 1.5"):
        NetworkOptions(trees=1.5)
    with pytest.raises(ValueError, match=r"noise must be two numbers, 0 < smallest <= largest, got \[0, 1\]"):
        NetworkOptions(noise=(0, 1))


def test_bad_folds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"between 2 and the smallest class of iris \(50\), got 60"):
        build(SyntheticPrior, tables=("sklearn:iris",), evaluation__folds=60)
