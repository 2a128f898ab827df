"""Networks of reconstruction: equivariance to rows, independence of queries, and hidden cells that are not read."""

from functools import partial
from typing import Any

import pytest
import torch

from tabattn.attention import MECHANISMS
from tabattn.contract.cells import Column
from tabattn.reconstruction import CellTransformer
from tabattn.reconstruction.cell_network import Reconstruction
from tabattn.reconstruction.wide import GAIN, WideBlock

COLUMNS = (
    Column("size"),
    Column("shape", ("flat", "round", "square")),
    Column("age"),
    Column("kind", ("a", "b"), target=True),
    Column("price", target=True),
)


def network(**options: Any) -> CellTransformer:
    """Make a small network whose residual branches are not silent."""
    torch.manual_seed(0)
    made = CellTransformer(COLUMNS, **{"dim": 8, "heads": 2, "hidden": 16, "layers": 2, **options}).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def cells(rows: int, tables: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw cells and a mask."""
    torch.manual_seed(1)
    x = torch.randn(tables, rows, len(COLUMNS))
    for place, column in enumerate(COLUMNS):
        if column.categories:
            x[..., place] = torch.randint(len(column.categories), x.shape[:2]).float()
    return x, torch.rand(x.shape) < 0.3


def parts(found: Reconstruction) -> list[torch.Tensor]:
    """Return all predictions as tensors with rows in dimension 1."""
    logits = found.logits.nan_to_num(neginf=0.0)
    return [found.mean, found.density.mean, found.density.variance, logits]


@pytest.mark.parametrize("datapoints", ["cells", "rows"])
@pytest.mark.parametrize("rows", [3, 5, 9])
def test_rows_are_equivariant(rows: int, datapoints: str) -> None:
    model = network(datapoints=datapoints)
    x, hidden = cells(rows)
    order = torch.randperm(rows)
    for one, other in zip(
        parts(model(x, hidden, rows)), parts(model(x[:, order], hidden[:, order], rows)), strict=True
    ):
        torch.testing.assert_close(one[:, order], other)


@pytest.mark.parametrize("datapoints", ["cells", "rows"])
def test_rows_behind_the_context_do_not_matter_to_others(datapoints: str) -> None:
    model = network(datapoints=datapoints)
    x, hidden = cells(8)
    whole = parts(model(x, hidden, 5))
    for row in range(5, 8):
        alone = [*range(5), row]
        for one, other in zip(whole, parts(model(x[:, alone], hidden[:, alone], 5)), strict=True):
            torch.testing.assert_close(one[:, alone], other)


def test_hidden_cells_are_not_read() -> None:
    model = network()
    x, hidden = cells(6)
    changed = torch.where(hidden, 1.0, x)
    for one, other in zip(parts(model(x, hidden, 4)), parts(model(changed, hidden, 4)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("embedding", ["linear", "rbf", "periodic"])
@pytest.mark.parametrize("datapoints", ["cells", "rows"])
def test_every_parameter_gets_a_gradient(embedding: str, datapoints: str) -> None:
    model = network(embedding=embedding, datapoints=datapoints)
    x, hidden = cells(8)
    found = model(x, hidden, 6)
    numbers = x[:, :, found.mean.shape[-1] - 1 : found.mean.shape[-1]]
    loss = (found.mean - numbers).square().sum() - found.density.log_prob(numbers).sum()
    (loss + found.logits.log_softmax(-1)[..., 0].sum()).backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []


def test_the_density_does_not_move_the_point_prediction() -> None:
    model = network()
    found = model(*cells(6), 6)
    found.density.log_prob(torch.ones_like(found.mean)).sum().backward()
    assert model.head.mean.weight.grad is None


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_every_mechanism_serves_both_axes(name: str) -> None:
    x, hidden = cells(8, tables=2)
    made = CellTransformer(COLUMNS, MECHANISMS[name], MECHANISMS[name], dim=8, heads=2, hidden=16, layers=1)
    assert parts(made(x, hidden, 6))[0].shape == (2, 8, 3)


def test_absent_categories_have_no_probability() -> None:
    logits = network()(*cells(4), 4).logits
    assert logits.shape == (1, 4, 2, 3)
    assert (logits.softmax(-1)[..., 1, 2] == 0).all()
    assert logits[..., 0, :].isfinite().all()


@pytest.mark.parametrize("columns", [COLUMNS[:1], COLUMNS[1:2], COLUMNS[::2]])
def test_tables_of_one_kind(columns: tuple[Column, ...]) -> None:
    made = CellTransformer(columns, dim=8, heads=2, hidden=16, layers=1)
    x = torch.zeros(1, 4, len(columns))
    found = made(x, x > 0, 4)
    assert found.mean.shape[-1] + found.logits.shape[2] == len(columns)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"embedding": "cubic"}, "embedding must be one of linear, rbf, periodic, piecewise, got 'cubic'"),
        ({"datapoints": "tables"}, "datapoints must be cells or rows, got 'tables'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"components": 0}, "components must be at least 1, got 0"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CellTransformer(COLUMNS, **options)


@pytest.mark.parametrize(("shape", "context"), [((1, 4, 3), 4), ((4, 5), 4), ((1, 4, 5), 5), ((1, 4, 5), 0)])
def test_cells_of_a_wrong_shape(shape: tuple[int, ...], context: int) -> None:
    x = torch.zeros(shape)
    with pytest.raises(ValueError, match="got"):
        network()(x, x > 0, context)


def test_dropout_acts_in_training() -> None:
    made = network(dropout=0.5)
    x, hidden = cells(5)
    run = partial(made, x, hidden, 5)
    assert torch.equal(run().mean, run().mean)
    made.train()
    assert not torch.equal(run().mean, run().mean)


def test_whole_rows_compare_themselves_with_others_at_first() -> None:
    block = WideBlock(3, 8, 2, 16)
    attention = block.rows.rows.get_submodule("attention")
    query, key, value = attention.qkv.weight.chunk(3)
    torch.testing.assert_close(query @ query.T, GAIN**2 * torch.eye(24), atol=1e-4, rtol=0.0)
    assert torch.equal(query, key)
    assert not torch.equal(query, value)
    assert not attention.qkv.bias[:48].any()
    assert attention.qkv.bias[48:].any()
    rows = torch.randn(5, 24)
    scores = attention.queries(rows[None]) @ attention.keys_values(rows[None])[0].transpose(-2, -1)
    assert (scores.sum(1).argmax(-1) == torch.arange(5)).all()
