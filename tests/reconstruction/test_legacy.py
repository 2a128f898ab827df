"""LegacyNPT: parity with the original, its number of parameters, and the laws of networks of tables."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from benchmarks.npt_golden import GOLDEN_COLUMNS, GOLDEN_ROWS, golden_cells, golden_outputs, ramp
from tabattn.attention import MECHANISMS, Softmax
from tabattn.contract.cells import Column
from tabattn.reconstruction import NETWORKS, LegacyNPT
from tabattn.reconstruction.legacy_block import LegacyBlock
from tabattn.training.cli import main
from tests.reconstruction.test_network import COLUMNS, cells, parts
from tests.reconstruction.test_task import frame

CONFIG = Path(__file__).parents[2] / "configs" / "experiments" / "reconstruction_legacy.yaml"
GOLDEN = json.loads((Path(__file__).parent / "npt_original.json").read_text())


def network(**options: Any) -> LegacyNPT:
    """Make a small network."""
    torch.manual_seed(0)
    return LegacyNPT(COLUMNS, **{"dim": 8, "heads": 2, "depth": 4, **options}).eval()


def close(got: list[Tensor], want: list[Tensor]) -> None:
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other)


def test_outputs_and_gradients_are_those_of_the_original() -> None:
    made = LegacyNPT(GOLDEN_COLUMNS, dim=8, heads=2, depth=4).double().eval()
    ramp(made)
    found = made(*golden_cells(), GOLDEN_ROWS)
    outputs = golden_outputs(found.mean[0], found.logits[0])
    loss = sum(each.square().sum() for each in outputs)
    assert isinstance(loss, Tensor)
    loss.backward()
    for output, known in zip(outputs, GOLDEN["outputs"], strict=True):
        torch.testing.assert_close(output.double(), torch.tensor(known, dtype=torch.double), rtol=0, atol=1e-6)
    norms = {name: each.grad.norm().item() for name, each in made.named_parameters() if each.grad is not None}
    assert norms == pytest.approx(GOLDEN["gradients"], rel=1e-5, abs=1e-6)


def test_parameters_are_those_of_the_original() -> None:
    numbers = tuple(Column(f"x{place}") for place in range(30))
    made = LegacyNPT((*numbers, Column("diagnosis", ("B", "M"), target=True)), dim=32, heads=8, depth=8)
    assert sum(parameter.numel() for parameter in made.parameters()) == 51_287_040
    options = yaml.safe_load(CONFIG.read_text())["model"]["init_args"]["network"]["init_args"]
    assert options == {"dim": 32, "heads": 8, "depth": 8, "dropout": 0.1}


@pytest.mark.parametrize("dim", [2, 8])
def test_a_block_has_the_parameters_of_the_paper(dim: int) -> None:
    assert sum(parameter.numel() for parameter in LegacyBlock(dim, 2).parameters()) == 13 * dim**2 + 14 * dim


def test_a_block_follows_its_formula() -> None:
    torch.manual_seed(0)
    block, x = LegacyBlock(6, 3).double(), torch.randn(2, 5, 6, dtype=torch.double)
    known = x[:, :4]
    q, k, v = block.query(block.norm(x)), block.key(known), block.value(known)
    mixed = []
    for head in (slice(0, 2), slice(2, 4), slice(4, 6)):
        weights = (q[..., head] @ k[..., head].mT / 6**0.5).softmax(-1)
        mixed.append(weights @ v[..., head])
    r = block.residual(x) + block.out(torch.cat(mixed, dim=-1))
    torch.testing.assert_close(block(x, 4), r + block.mlp(block.mlp_norm(r)))


@pytest.mark.parametrize("rows", [3, 5, 9])
def test_rows_are_equivariant(rows: int) -> None:
    x, hidden = cells(rows)
    order = torch.randperm(rows)
    changed = parts(network()(x[:, order], hidden[:, order], rows))
    close([part[:, order] for part in parts(network()(x, hidden, rows))], changed)


@pytest.mark.parametrize("attention", ["Softmax", "Nystrom"])
def test_rows_behind_the_context_do_not_matter_to_others(attention: str) -> None:
    model = network(attention=MECHANISMS[attention])
    x, hidden = cells(8)
    whole = parts(model(x, hidden, 5))
    for row in range(5, 8):
        alone = [*range(5), row]
        close(parts(model(x[:, alone], hidden[:, alone], 5)), [part[:, alone] for part in whole])


def test_tables_of_a_batch_do_not_matter_to_one_another() -> None:
    x, hidden = cells(6, tables=2)
    whole = parts(network()(x, hidden, 4))
    close(parts(network()(x[1:], hidden[1:], 4)), [part[1:] for part in whole])


def test_hidden_cells_are_not_read() -> None:
    x, hidden = cells(6)
    close(parts(network()(torch.where(hidden, 1.0, x), hidden, 4)), parts(network()(x, hidden, 4)))


def test_absent_categories_have_no_probability() -> None:
    logits = network()(*cells(4), 4).logits
    assert logits.shape == (1, 4, 2, 3)
    assert (logits.softmax(-1)[..., 1, 2] == 0).all()
    assert logits[..., 0, :].isfinite().all()


def test_the_density_is_normal_around_the_mean() -> None:
    found = network()(*cells(6), 6)
    torch.testing.assert_close(found.density.mean, found.mean)
    torch.testing.assert_close(found.density.variance, torch.ones_like(found.mean))


@pytest.mark.parametrize("columns", [COLUMNS, COLUMNS[1::2], COLUMNS[::2]])
def test_every_parameter_gets_a_gradient(columns: tuple[Column, ...]) -> None:
    torch.manual_seed(0)
    made = LegacyNPT(columns, dim=8, heads=2, depth=2)
    kinds = [COLUMNS.index(column) for column in columns]
    x, hidden = (part[:, :, kinds] for part in cells(20))
    found = made(x, hidden, 20)
    found.logits.nan_to_num(neginf=0.0).square().sum().add(found.mean.square().sum()).backward()
    # Logits of one query do not change by what all keys have in common.
    missing = {name for name, each in made.named_parameters() if each.grad is None or not each.grad.any()}
    assert {name for name in missing if not name.endswith("key.bias")} == set()


@pytest.mark.parametrize("columns", [COLUMNS[:1], COLUMNS[1:2]])
def test_tables_of_one_column(columns: tuple[Column, ...]) -> None:
    made = LegacyNPT(columns, dim=8, heads=2, depth=2)
    found = made(torch.zeros(1, 4, 1), torch.zeros(1, 4, 1) > 0, 4)
    assert found.mean.shape[-1] + found.logits.shape[2] == 1


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_every_mechanism_serves_both_axes(name: str) -> None:
    x, hidden = cells(8, tables=2)
    made = LegacyNPT(COLUMNS, MECHANISMS[name], MECHANISMS[name], dim=8, heads=2, depth=2)
    assert parts(made(x, hidden, 6))[0].shape == (2, 8, 3)


def test_dropout_acts_in_training_on_cells_branches_and_weights() -> None:
    x, hidden = cells(5)
    for made in (network(dropout=0.5), network(dropout=0.0, attention=partial(Softmax, dropout=0.5))):
        run = partial(made, x, hidden, 5)
        assert torch.equal(run().mean, run().mean)
        made.train()
        assert not torch.equal(run().mean, run().mean)
    places = [module.p for module in network(dropout=0.25).modules() if isinstance(module, nn.Dropout)]
    assert places == [0.25] * (1 + 4 * 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth": 3}, "depth must be even, got 3"),
        ({"depth": 0}, "depth must be at least 2, got 0"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"dim": 9}, "dim must be a multiple of heads, got dim 9 and heads 2"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        network(**options)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best checkpoint of a training by the configuration is tested once."""
    monkeypatch.chdir(tmp_path)
    frame().to_csv("table.csv", index=False)
    flags = ["--config", str(CONFIG), "--data.table=table.csv", "--data.target=price", "--trainer.accelerator=cpu"]
    flags += ["--model.network.dim=8", "--model.network.depth=2", "--data.steps_per_epoch=2", "--trainer.max_steps=4"]
    flags += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    assert main(["fit", *flags]) == 0
    run = tmp_path / "runs" / "reconstruction" / "LegacyNPT-Softmax" / "version_0"
    assert main(["test", *flags, f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"]) == 0
    assert NETWORKS["LegacyNPT"] is LegacyNPT
