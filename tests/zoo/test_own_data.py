"""Networks for a user's own table: sampled, searched, and fine-tuned."""

import copy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import Tensor, nn

from tabattn.metafeatures import NAMES, MetaScaler, get_meta_features
from tabattn.tasks import NetworkVAE
from tabattn.zoo import DAGNet, NeuronTokens, NeuronTransformer, Sizes
from tabattn.zoo.own_data import OwnData, Table, TableNetwork, fine_tune
from tabattn.zoo.search import SearchOptions
from tests.zoo.latents import WIDTH, decode
from tests.zoo.networks import batch, graph

SIZES = Sizes(14, 4, 5, 4, len(NAMES))
IDENTITY = MetaScaler(np.zeros(len(NAMES)), np.ones(len(NAMES)))


class Fake(OwnData):
    """Task whose latents are the weights of networks with two inputs."""

    def __init__(self) -> None:
        self.network: Any = SimpleNamespace(sizes=SIZES, latent=WIDTH)
        self.meta_scaling = torch.tensor([[0.0], [1.0]]).repeat(1, len(NAMES))
        self.told: list[tuple[Tensor, ...]] = []

    def draw(
        self, n: int, meta: Tensor, x: Tensor, y: Tensor, prior: str, temperature: float, seed: int | None
    ) -> Tensor:
        assert (prior, temperature) == ("flow", 1.0)
        return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed or 0))

    def decode(self, latents: Tensor, meta: Tensor, x: Tensor, y: Tensor, inputs: int) -> NeuronTokens:
        assert inputs == 2
        self.told.append((meta, x, y))
        return decode(latents)


def table(rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Table in units of its own."""
    source = np.random.default_rng(0)
    x = source.normal(size=(rows, 2)) * [100.0, 0.01] + [1000.0, 5.0]
    return x, 30 * np.tanh((x[:, 0] - 1000) / 100) - 7


def test_samples_are_networks_of_the_table_best_first() -> None:
    x, y = table()
    task = Fake()
    found = task.sample_for(x, y, 3)
    assert len(found) == 3
    rows = torch.from_numpy(x)
    scores = [r2_score(y, each(rows).detach()) for each in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.3
    meta, standard, target = task.told[0]
    assert standard.mean(0).tolist() == pytest.approx([0, 0], abs=1e-4)
    assert standard.std(0, correction=0).tolist() == pytest.approx([1, 1], rel=1e-4)
    assert float(target.std(correction=0)) == pytest.approx(1, rel=1e-4)
    measured = get_meta_features(x, y)
    np.testing.assert_allclose(meta, IDENTITY(measured.values, measured.valid), rtol=1e-6)
    again = Fake().sample_for(x, y, 3)
    assert torch.equal(again[0](rows), found[0](rows))
    other = Fake().sample_for(x, y, 3, seed=1)
    assert not torch.equal(other[0](rows), found[0](rows))


def test_missing_cells_count_as_the_mean() -> None:
    x, y = table()
    (network,) = Fake().sample_for(x, y, 1)
    rows = torch.from_numpy(x[:2])
    rows[0, 1], rows[1, 1] = torch.nan, float(x[:, 1].mean())
    rows[1, 0] = rows[0, 0]
    outputs = network(rows).detach()
    assert float(outputs[0]) == pytest.approx(float(outputs[1]), rel=1e-4)
    x[3, 0] = np.nan
    assert len(Fake().sample_for(x, y, 2)) == 2


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.0, 1e9), (1e300, 0.0), (1e-300, 0.0), (-1e-3, 5.0)])
def test_the_unit_of_a_table_does_not_matter(scale: float, shift: float) -> None:
    """Such as seconds since 1970, which single precision would round to minutes."""
    x, y = table()
    x = np.round(x, 3)
    expected = Table.of(x, y, IDENTITY)
    found = Table.of(scale * x + shift, scale * y + shift, IDENTITY)
    sign = np.sign(scale)
    np.testing.assert_allclose(found.x, sign * expected.x, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.y, sign * expected.y, rtol=1e-3, atol=1e-3)
    torch.manual_seed(0)
    line = nn.Linear(2, 1)
    outputs = TableNetwork(line, found)(torch.from_numpy(scale * x + shift)).detach().numpy()
    target = line(found.x).detach().numpy()[:, 0]
    np.testing.assert_allclose((outputs - shift) / scale, sign * target * y.std() + y.mean(), rtol=1e-3, atol=1e-3)


def test_rows_of_another_table_are_refused() -> None:
    x, y = table()
    network = TableNetwork(nn.Linear(2, 1), Table.of(x, y, IDENTITY))
    for columns in (1, 3):
        with pytest.raises(ValueError, match=f"x must have 2 columns, got {columns}"):
            network(torch.zeros(5, columns))
    assert network(torch.zeros(5, 2)).dtype == torch.float32
    assert network(torch.zeros(5, 2).double()).dtype == torch.float64
    assert network(torch.zeros(5, 2, dtype=torch.long)).dtype == torch.float32
    infinite, missing = torch.zeros(1, 2), torch.zeros(1, 2)
    infinite[0, 1], missing[0, 1] = torch.inf, torch.nan
    assert torch.equal(network(infinite), network(missing))
    assert torch.equal(copy.deepcopy(network).double()(torch.zeros(1, 2)).float(), network(torch.zeros(1, 2)))


@pytest.mark.parametrize("method", ["nsga2", "cmaes", "gradient", "random"])
def test_searches_return_a_front_of_networks(method: str) -> None:
    x, y = table()
    found, networks = Fake().search_for(x, y, method, SearchOptions(evaluations=90, population=30))
    assert len(found.quality) == 90
    assert networks
    scores = [r2_score(y, each(torch.from_numpy(x)).detach()) for each in networks]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(float(found.quality.max()), abs=1e-3)


def test_fine_tuning_trains_a_copy() -> None:
    x, y = table()
    (network,) = Fake().sample_for(x, y, 1)
    rows = torch.from_numpy(x)
    before = network(rows).detach()
    tuned = fine_tune(network, x, y, steps=100)
    assert torch.equal(network(rows), before)
    assert r2_score(y, tuned(rows).detach()) > max(r2_score(y, before), 0.9)
    short = fine_tune(network, x, y, steps=30)(rows)
    assert torch.equal(short, fine_tune(network, x, y, steps=30)(rows))
    assert not torch.equal(short, fine_tune(network, x, y, steps=30, seed=1)(rows))
    assert torch.equal(fine_tune(network, x, y, steps=0)(rows), before)
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        fine_tune(network, x, y, steps=-1)
    column = fine_tune(network, x, y[:, None], steps=30)
    assert torch.equal(column(rows), short)


def test_fine_tuning_of_layers_has_no_pairs_of_rows() -> None:
    """Outputs ``(rows, 1)`` less targets ``(rows,)`` would be a matrix, whose least squares are the mean."""
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    y = x @ np.float32([3, -2])
    torch.manual_seed(0)
    tuned = fine_tune(nn.Linear(2, 1), x, y, steps=300, lr=0.1)
    assert r2_score(y, tuned(torch.from_numpy(x)).detach()[:, 0]) > 0.99


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(5)}, r"must have the shapes \(rows, inputs\) and \(rows,\), got \(\(120, 2\), \(5,\)\)"),
        ({"y": np.zeros((120, 2))}, r"got \(\(120, 2\), \(120, 2\)\)"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, r"got \(\(0, 2\), \(0,\)\)"),
        ({"y": np.full(120, np.nan)}, "y must have finite numbers"),
        ({"network": nn.Linear(2, 3)}, r"network must have one output for each of 50 rows, got \(50, 3\)"),
        ({"lr": 0.0}, "lr must be above 0 and finite, got 0.0"),
        ({"lr": float("inf")}, "lr must be above 0 and finite, got inf"),
    ],
)
def test_fine_tuning_on_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    x, y = table()
    with pytest.raises(ValueError, match=message):
        fine_tune(**{"network": nn.Linear(2, 1), "x": x, "y": y, "steps": 2, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"y": np.zeros(3)},
            r"x and y must have the shapes \(rows, inputs\) and \(rows,\), got \(\(120, 2\), \(3,\)\)",
        ),
        ({"y": np.ones((1, 120))}, r"got \(\(120, 2\), \(1, 120\)\)"),
        ({"y": ["a"] * 120}, "y must be numbers, got a of row 0"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, r"got \(\(0, 2\), \(0,\)\)"),
        ({"y": np.ones(120)}, "y must have finite numbers, not all the same"),
        ({"y": np.full(120, np.nan)}, "y must have finite numbers"),
        ({"x": np.full((120, 2), np.nan)}, "column 0 of x has no number"),
        ({"x": np.random.default_rng(0).normal(size=(120, 5))}, "x must have at most 4 columns, got 5"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": 5, "candidates": 4}, "candidates must be at least 5, got 4"),
    ],
)
def test_tables_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    x, y = table()
    with pytest.raises(ValueError, match=message):
        Fake().sample_for(**{"x": x, "y": y, **change})


def test_a_task_has_the_scaling_of_its_zoo(tmp_path: Path) -> None:
    torch.manual_seed(0)
    make = partial(NeuronTransformer, dim=16, heads=2, hidden=16, layers=1, slots=3, weight_layers=1, latent=8)
    made = NetworkVAE(make, sizes=SIZES)

    class Data(lightning.LightningDataModule):
        scaler = MetaScaler(np.linspace(-1, 1, len(NAMES)), np.full(len(NAMES), 2.0))

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader([batch(4)], batch_size=None)  # type: ignore[arg-type]

        val_dataloader = train_dataloader

    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(made, Data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = NetworkVAE.load_from_checkpoint(tmp_path / "a.ckpt")
    source = np.random.default_rng(0)
    x = source.normal(size=(60, 4))
    meta = again.table(x, x[:, 0]).meta
    measured = get_meta_features(x, x[:, 0])
    np.testing.assert_allclose(meta, Data.scaler(measured.values, measured.valid), rtol=1e-5, atol=1e-6)
    for columns in (1, 3, 4):
        networks = again.sample_for(x[:, :columns], x[:, 0], 8, candidates=8, prior="normal")
        assert all(each(torch.from_numpy(x[:, :columns])).shape == (60,) for each in networks)


def test_a_network_is_in_the_units_of_its_table() -> None:
    x, y = table()
    made = Table.of(x, y, IDENTITY)
    network = TableNetwork(nn.Linear(2, 1), made)
    with torch.no_grad():
        network.network.weight.copy_(torch.tensor([[2.0, 0.0]]))  # type: ignore[union-attr]
        network.network.bias.fill_(1.0)  # type: ignore[union-attr]
    expected = (2 * (x[:, 0] - x[:, 0].mean()) / x[:, 0].std() + 1) * y.std() + y.mean()
    np.testing.assert_allclose(network(torch.from_numpy(x)).detach(), expected, rtol=1e-3, atol=1e-2)


def test_new_weights_of_a_graph_are_as_those_of_linear_layers() -> None:
    source = np.random.default_rng(0)
    made = DAGNet(graph(source))
    before = made.graph()
    torch.manual_seed(0)
    made.reset_parameters()
    after = made.graph()
    assert after.architecture() == before.architecture()
    parents = np.diff(after.pointer)
    weighted, biased = (after.flags[after.child] & 1) > 0, (after.flags & 2) > 0
    assert (np.abs(after.weight) <= 1 / np.sqrt(parents[after.child]))[weighted].all()
    assert (np.abs(after.bias) <= 1 / np.sqrt(np.maximum(parents, 1)))[biased].all()
    assert not (after.weight == before.weight)[weighted].any()
