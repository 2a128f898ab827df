"""Laws of the in-context classifier with structural options: radial cells, rows first, summaries, row tokens."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from tabattn.attention import MECHANISMS, Inducing, Local
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions
from tests.prior.test_network import SIZES, awake, table

SUMMARIES = PriorOptions(order="rows", summaries=2)
ROWS = PriorOptions("rbf", 5, "rows", summaries=2, row_layers=2, row_dim=12, row_heads=3, row_hidden=20)
STRUCTURES = {
    "rbf": PriorOptions("rbf", 5),
    "rows first": PriorOptions(order="rows"),
    "pooled": PriorOptions(readout="attention"),
    "rows first, pooled": PriorOptions(order="rows", readout="attention"),
    "summaries": SUMMARIES,
    "rows": ROWS,
    "one layer of rows": replace(ROWS, row_layers=1),
}


def made(options: PriorOptions, **changes: Any) -> PriorNetwork:
    return awake(PriorNetwork(**{**SIZES, "thinking_rows": 3, **changes}, options=options))


@pytest.fixture(params=STRUCTURES)
def network(request: pytest.FixtureRequest) -> PriorNetwork:
    return made(STRUCTURES[request.param])


def test_answers_every_target_row(network: PriorNetwork) -> None:
    x, y = table()
    assert network(x, y, 8).shape == (2, 4, 3)


def test_labels_of_target_rows_are_not_read(network: PriorNetwork) -> None:
    x, y = table()
    other = torch.cat([y[:, :8], (y[:, 8:] + 1) % 3], dim=1)
    torch.testing.assert_close(network(x, y, 8), network(x, other, 8), rtol=0, atol=0)


def test_labels_of_context_rows_are_read(network: PriorNetwork) -> None:
    x, y = table()
    other = torch.cat([(y[:, :1] + 1) % 3, y[:, 1:]], dim=1)
    assert (network(x, y, 8) - network(x, other, 8)).abs().amax() > 1e-4


def test_target_rows_do_not_influence_one_another(network: PriorNetwork) -> None:
    x, y = table()
    alone = torch.cat([network(torch.cat([x[:, :8], x[:, i : i + 1]], dim=1), y, 8) for i in range(8, 12)], dim=1)
    torch.testing.assert_close(network(x, y, 8), alone, rtol=1e-4, atol=1e-5)


def test_order_of_context_rows_does_not_matter(network: PriorNetwork) -> None:
    x, y = table()
    order = torch.cat([torch.randperm(8), torch.arange(8, 12)])
    torch.testing.assert_close(network(x, y, 8), network(x[:, order], y[:, order], 8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_order_of_columns_does_not_matter_without_groups(structure: str) -> None:
    network = made(STRUCTURES[structure], feature_group=1)
    x, y = table()
    turned = network(x[:, :, torch.tensor([1, 0, 2, 4, 3])], y, 8)
    torch.testing.assert_close(network(x, y, 8), turned, rtol=1e-4, atol=1e-5)


def test_tables_of_unequal_width_share_a_batch(network: PriorNetwork) -> None:
    x, y = table()
    both = network(x, y, 8, columns=torch.tensor([5, 3]))
    torch.testing.assert_close(both[1:], network(x[1:, :, :3], y[1:], 8), rtol=1e-4, atol=1e-5)


def test_decoding_equals_the_joint_forward(network: PriorNetwork) -> None:
    x, y = table()
    cache = network.prefill(x[:, :8], y[:, :8])
    torch.testing.assert_close(network.decode(x[:, 8:], cache), network(x, y, 8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", ["rows first", "summaries", "rows"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_any_mechanism_at_any_site(mechanism: str, structure: str) -> None:
    given = {"attention": MECHANISMS[mechanism], "feature_attention": MECHANISMS[mechanism]}
    network = made(STRUCTURES[structure], **given)
    x, y = table()
    cache = network.prefill(x[:, :8], y[:, :8])
    torch.testing.assert_close(network.decode(x[:, 8:], cache), network(x, y, 8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_parameter_learns(mechanism: str, structure: str) -> None:
    if structure == "one layer of rows" and not MECHANISMS[mechanism].cross:
        pytest.skip("nothing would read what the mechanism makes")
    network = made(STRUCTURES[structure], attention=MECHANISMS[mechanism])
    x, y = table()
    torch.nn.functional.cross_entropy(network.train()(x, y, 8).flatten(0, 1), y[:, 8:].flatten()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_cells_and_rows_have_mechanisms_of_their_own() -> None:
    network: Any = made(ROWS, cell_attention=partial(Inducing, points=2), attention=MECHANISMS["Linear"])
    sites = [block.rows.attention.mechanism for block in (*network.blocks, *network.rows.blocks)]
    assert [type(site).__name__ for site in sites] == ["Inducing"] * 3 + ["Linear"] * 2


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_pooling_changes_nothing_before_it_is_trained(mechanism: str) -> None:
    """So that a trained network can be given the option and go on."""
    given = {"attention": MECHANISMS[mechanism], "feature_attention": MECHANISMS[mechanism]}
    plain = made(PriorOptions(), **given)
    pooled = PriorNetwork(**{**SIZES, "thinking_rows": 3, **given}, options=PriorOptions(readout="attention"))
    left = pooled.load_state_dict(plain.state_dict(), strict=False)
    assert {name.partition(".")[0] for name in left.missing_keys} == {"pooling"}
    x, y = table()
    torch.testing.assert_close(pooled.eval()(x, y, 8), plain(x, y, 8), rtol=1e-5, atol=1e-6)


def test_pooling_reads_every_column_of_its_own_row() -> None:
    pooling: Any = made(PriorOptions(readout="attention")).pooling
    x = torch.randn(2, 3, 5, 16)
    before = pooling(x)
    assert before.shape == (2, 3, 16)
    for column in range(5):
        other = x.clone()
        other[1, 2, column] += torch.randn(16)
        changed = (pooling(other) - before).abs().amax(2) > 1e-5
        assert changed.nonzero().tolist() == [[1, 2]]


def test_thinking_rows_belong_to_the_layers_on_rows() -> None:
    network: Any = made(ROWS)
    assert network.thinking is None
    assert network.rows.thinking.shape == (1, 3, 12)


def test_layers_on_rows_cost_the_same_for_any_number_of_columns() -> None:
    network: Any = made(ROWS)
    shapes = []
    for features in (2, 9):
        cache = network.prefill(*table(8, features))
        shapes.append([tuple(part.shape for part in layer.tensors) for layer in cache.rows])
        assert cache.layers[0].tensors[0].shape[0] == 2 * features
    assert shapes[0] == shapes[1] == [((2, 3, 11, 4),) * 2] * 2


def test_radial_functions_are_gaussians_of_the_standardised_value() -> None:
    """Five of them at -3, -1.5, 0, 1.5 and 3 standard deviations, each as wide as their distance."""
    cells: Any = made(PriorOptions("rbf", 5), feature_group=1).cells
    x = torch.tensor([-1.0, 1.0, 2.5]).view(1, 3, 1)
    statistics = cells.statistics(x[:, :2])
    z = torch.tensor([-1.0, 1.0, 2.5])[:, None]
    bumps = torch.exp(-0.5 * ((z - torch.tensor([-3.0, -1.5, 0.0, 1.5, 3.0])) / 1.5) ** 2)
    want = cells.linear(torch.cat([z, torch.zeros(3, 1), bumps], dim=1))
    torch.testing.assert_close(cells(x, statistics)[0, :, 0], want)


def test_cells_are_embedded_in_full_precision_under_autocast() -> None:
    cells: Any = made(PriorOptions("rbf", 5)).cells
    x, _ = table()
    with torch.autocast("cpu", torch.bfloat16):
        given = cells(x, cells.statistics(x))
    torch.testing.assert_close(given, cells(x, cells.statistics(x)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedding": "radial"}, "embedding must be linear or rbf, got 'radial'"),
        ({"order": "cells"}, "order must be columns or rows, got 'cells'"),
        ({"radial": 1}, "radial must be at least 2, got 1"),
        ({"summaries": -1}, "summaries must be at least 0, got -1"),
        ({"row_layers": -1}, "row_layers must be at least 0, got -1"),
        ({"row_dim": 0}, "row_dim must be at least 1, got 0"),
        ({"row_hidden": 0}, "row_hidden must be at least 1, got 0"),
        ({"readout": "mean"}, "readout must be label or attention, got 'mean'"),
        (
            {"readout": "attention", "order": "rows", "summaries": 2},
            "summaries must be 0 where the readout is attention, got 2",
        ),
        ({"summaries": 2}, "order must be rows where there are summaries, got columns and 2"),
        ({"order": "rows", "row_layers": 2}, "summaries must be at least 1 where there are row_layers, got 0 and 2"),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriorOptions(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell_attention": Inducing}, "cell_attention needs options.row_layers of at least 1, got 0"),
        ({"options": replace(ROWS, row_heads=5)}, "dim must be a multiple of heads, got dim 12 and heads 5"),
        (
            {"options": replace(ROWS, row_layers=1), "attention": Local},
            "layers must be at least 2 for attention Local, got 1",
        ),
    ],
)
def test_options_that_would_do_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriorNetwork(**{**SIZES, **arguments})
