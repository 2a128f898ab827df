"""Options of the random causal models: effect on tables; an option that is off draws no random number."""

from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import SyntheticPrior
from datamodules.counter import generator
from datamodules.draws import chance
from datamodules.prior.options import BatchOptions
from datamodules.prior.scm import Table, _run_network, another_view, draw_table
from datamodules.prior.scm_classes import region_classes
from datamodules.prior.scm_columns import finish_columns
from datamodules.prior.scm_layers import draw_layer
from datamodules.prior.scm_options import ClassOptions, ColumnOptions, NetworkOptions, ScmOptions
from tests.helpers import build

PLAIN: dict[str, Any] = {"missing": 0.0, "categorical": 0.0}
OPTIONS = (
    *("interactions", "rules", "regions", "tails", "outliers", "rounding", "irrelevant", "duplicates"),
    *("blocks", "forests", "lookups", "fourier", "linear"),
)


def scm(**options: Any) -> ScmOptions:
    """Options by their names alone, each put in its group."""
    given = {ScmOptions.moved.get(name, name).replace(".", "__"): value for name, value in options.items()}
    return build(ScmOptions, **given)


def finished(rows: int = 400, features: int = 6, seed: int = 0, **options: Any) -> Tensor:
    x = torch.randn(rows, features, generator=generator(9, seed))
    return finish_columns(x, generator(seed), ColumnOptions(**{**PLAIN, **options}))


def test_chance_draws_nothing_where_it_cannot_be() -> None:
    one, other = generator(1), generator(1)
    assert not chance(0.0, one)
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))
    assert chance(1.0, one)
    draws = [chance(0.3, generator(2, i)) for i in range(200)]
    assert 40 < sum(draws) < 80


@pytest.mark.parametrize("name", OPTIONS)
def test_tables_stay_finite_and_balanced_with_every_option(name: str) -> None:
    options = scm(**{"trees": 0.0, "missing": 1.0 if name == "blocks" else 0.0, name: 1.0})
    for seed in range(8):
        table = draw_table(80, 7, 4, 50, generator(seed), options)
        assert table.y[:50].unique().tolist() == table.y[50:].unique().tolist() == [0, 1, 2, 3]
        assert table.x.isnan().any() == (name == "blocks")
        assert torch.isfinite(table.x[~table.x.isnan()]).all()


def test_classes_of_unrelated_tables_say_nothing_of_the_cells() -> None:
    """The nearest other row has the same class as often as chance has it, and elsewhere more often."""

    def agreement(unrelated: float) -> float:
        shares = []
        for seed in range(12):
            x, y = draw_table(200, 5, 2, 100, generator(seed), scm(**PLAIN, unrelated=unrelated))
            distance = torch.cdist(x, x).fill_diagonal_(torch.inf)
            same = (y[distance.argmin(1)] == y).double().mean()
            share = y.double().mean()
            shares.append(float(same - (share**2 + (1 - share) ** 2)))
        return sum(shares) / len(shares)

    assert abs(agreement(1.0)) < 0.03
    assert agreement(0.0) > 0.1


def test_all_nodes_of_a_linear_network_are_linear_in_its_causes() -> None:
    def unexplained(linear: float) -> float:
        options = scm(linear=linear, causal=0.0, discrete=0.0, noise=(1e-6, 1e-6), layers=(3, 3), trees=0.3)
        nodes, causes = _run_network(300, 4, generator(7), options)
        given = torch.cat([causes, torch.ones(300, 1)], dim=1)
        return float((nodes - given @ torch.linalg.lstsq(given, nodes).solution).std())

    assert unexplained(1.0) < 1e-4
    assert unexplained(0.0) > 0.1


def test_columns_have_up_to_so_many_categories() -> None:
    counts = [
        max(len(column.unique()) for column in finished(seed=seed, categorical=1.0, levels=60).T) for seed in range(5)
    ]
    assert 10 < max(counts) <= 60
    assert max(len(column.unique()) for column in finished(categorical=1.0).T) <= 10


def test_outliers_lie_far_outside() -> None:
    def reach(x: Tensor) -> float:
        """The largest distance from the median of any column, in quartile distances."""
        spread = x.quantile(0.75, 0) - x.quantile(0.25, 0)
        return float(((x - x.median(0).values).abs() / spread).amax())

    assert max(reach(finished(seed=seed, outliers=1.0)) for seed in range(6)) > 15


def test_rounded_columns_have_few_values() -> None:
    plain, rounded = finished(), finished(rounding=1.0)
    assert all(len(column.unique()) > 390 for column in plain.T)
    assert all(len(column.unique()) < 200 for column in rounded.T)


def test_missing_blocks_lie_in_common_rows() -> None:
    gone = finished(missing=1.0, blocks=1.0).isnan()
    columns = gone.any(0)
    assert columns.any()
    assert torch.equal(gone, gone.any(1)[:, None] & columns)


def test_duplicates_correlate_and_irrelevant_columns_do_not() -> None:
    def correlation(x: Tensor) -> float:
        matrix = x.T.corrcoef().abs() - torch.eye(x.shape[1])
        return float(matrix.max())

    assert max(correlation(finished(seed=seed, duplicates=1.0)) for seed in range(5)) > 0.8
    x = torch.randn(500, 1, generator=generator(3)).expand(-1, 8) + 0.01 * torch.randn(500, 8, generator=generator(4))
    matrices = []
    for seed in range(6):
        made = finish_columns(x, generator(seed), ColumnOptions(**PLAIN, irrelevant=1.0))
        matrices.append(made.log1p().nan_to_num().T.corrcoef().abs())
    assert min(float(matrix.min()) for matrix in matrices) < 0.15


def test_skewed_columns_keep_their_order() -> None:
    x = torch.randn(300, 3, generator=generator(9, 0))
    made = finish_columns(x, generator(5), ColumnOptions(**PLAIN, tails=1.0))
    for column in made.T:
        ranks = column.argsort().argsort().double()
        matches = [
            abs(float(torch.stack([ranks, source.argsort().argsort().double()]).corrcoef()[0, 1])) for source in x.T
        ]
        assert max(matches) > 0.6


def test_a_rule_says_yes_or_no_and_an_interaction_is_no_sum() -> None:
    h = torch.randn(300, 5, generator=generator(0))
    values = {len(draw_layer(h, 9, generator(seed), NetworkOptions(trees=0, rules=1)).unique()) for seed in range(6)}
    assert min(values) == 2
    made = draw_layer(h, 40, generator(1), NetworkOptions(trees=0, interactions=1))
    design = torch.cat([h, h.square(), h.sign(), h.abs(), torch.ones(300, 1)], dim=1)
    rest = made - design @ torch.linalg.lstsq(design, made).solution
    assert int((rest.std(0) > 0.3 * made.std(0)).sum()) > 8


def test_regions_have_no_order() -> None:
    """With a piece of one score the classes of sorted rows come in few runs; with regions of several nodes in many."""
    nodes = torch.randn(600, 8, generator=generator(0))
    runs = []
    for seed in range(10):
        y = region_classes(nodes, 5, generator(seed), ClassOptions())
        assert y.unique().tolist() == list(range(5))
        counts = [int((y[nodes[:, node].argsort()].diff() != 0).sum()) for node in range(8)]
        runs.append(min(counts))
    assert min(runs) > 60


def test_many_classes_and_few_features_come_when_asked() -> None:
    small: dict[str, Any] = {"batch_size": 8, "rows": (60, 60), "features": (2, 40), "classes": (2, 10)}

    def drawn(**options: float) -> tuple[float, float]:
        dataset = SyntheticPrior(**small, scm=scm(**options), tables=("sklearn:iris",)).train_dataloader().dataset
        batches = [dataset[i] for i in range(20)]
        classes = torch.cat([batch.y.amax(1) + 1 for batch in batches]).double().mean()
        return float(classes), sum(batch.x.shape[2] for batch in batches) / len(batches)

    plain, changed = drawn(), drawn(many=1.0, narrow=1.0)
    assert changed[0] > plain[0] + 0.5
    assert changed[1] < plain[1] - 4


def test_views_are_one_table_split_anew() -> None:
    data = SyntheticPrior(
        batch_size=6, rows=(40, 40), features=(5, 5), batches=BatchOptions(views=3), tables=("sklearn:iris",)
    )
    batch = data.train_dataloader().dataset[0]
    assert len(batch.x) == 6

    def content(index: int) -> Tensor:
        x = batch.x[index].nan_to_num(1e6)
        return x.sum(1).sort().values

    assert torch.allclose(content(0), content(1))
    assert torch.allclose(content(0), content(2))
    assert not torch.allclose(content(0), content(3))
    assert not torch.equal(batch.x[0], batch.x[1])


def test_a_view_keeps_rows_with_their_classes() -> None:
    x = torch.arange(60.0).view(20, 3)
    y = torch.arange(20) % 2
    view = another_view(Table(x, y), 2, 10, generator(0))
    rows = view.x.sort(1).values
    assert sorted(rows[:, 0].tolist()) == x[:, 0].tolist()
    renamed = view.y[rows[:, 0].argsort()]
    assert torch.equal(renamed, y) or torch.equal(renamed, 1 - y)
    assert view.y[:10].unique().tolist() == view.y[10:].unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regions": 1.5}, r"regions must be in \[0, 1\], got 1.5"),
        ({"linear": -0.1}, r"scm.linear must be in \[0, 1\], got -0.1"),
        ({"levels": 1}, "levels must be at least 2, got 1"),
        (
            {"trees": 0.6, "rules": 0.3, "fourier": 0.2},
            "network.trees, interactions, rules, forests, lookups and fourier must add up to at most 1, got 1.1",
        ),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scm(**arguments)


def test_no_views_are_refused() -> None:
    with pytest.raises(ValueError, match="views must be at least 1, got 0"):
        BatchOptions(views=0)
