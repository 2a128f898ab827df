"""Sources of networks: packaged weights, weight files, checkpoints, and the command that packages weights."""

import os
import re
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from tabattn import TabularClassifier
from tabattn.attention import MECHANISMS, Entmax, Local, Softmax
from tabattn.prior import NETWORKS, package_weights, weights
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions
from tabattn.storage.trusted import VARIABLE
from tabattn.tasks import PriorClassification
from tests.prior.estimator.tiny import LEGACY, SIZES, MakeTable, row_mechanism, tiny_network

ROWS = PriorOptions("rbf", 5, "rows", summaries=2, row_layers=2, row_dim=12, row_heads=3, row_hidden=20)
ATTENTIONS = {**MECHANISMS, "learned alpha": partial(Entmax, alpha=1.4, learn_alpha=True)}


def same(one: Any, other: Any) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)
    x, y = torch.randn(1, 9, 3), torch.randint(0, 3, (1, 9))
    torch.testing.assert_close(one(x, y, 6), other(x, y, 6), rtol=0, atol=1e-5)


def checkpoint(path: Path, shift: float = 0.0, **changes: Any) -> Any:
    """A task's checkpoint as Lightning writes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        kind = changes.pop("name", "PriorNetwork")
        attentions = {
            name: changes.pop(name)
            for name in tuple(changes)
            if name.endswith("attention") and name != "cell_attention"
        }
        sizes = SIZES if kind == "PriorNetwork" else {name: SIZES[name] for name in SIZES if name != "thinking_rows"}
        task = PriorClassification(partial(NETWORKS[kind], **(sizes | changes)), **attentions)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(shift)
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu")
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return task.network.eval()


@pytest.mark.parametrize("changes", [{"feature_group": 2, "thinking_rows": 3}, LEGACY], ids=["default", "legacy"])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_network_is_described_and_built_again(tmp_path: Path, name: str, changes: Any) -> None:
    network = tiny_network(attention=ATTENTIONS[name], **changes)
    tensors, arguments = weights.described(network)
    weights.write(tmp_path / "a.safetensors", tensors, {"network": arguments})
    same(network, weights.load_network(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 1},
        {"layers": 1, **LEGACY},
        {"thinking_rows": 0},
        {"feature_attention": partial(Local, window=2)},
        {"target_attention": MECHANISMS["Linear"]},
        {"target_attention": MECHANISMS["Linear"], **LEGACY},
        {"target_attention": MECHANISMS["Linear"], "layers": 1},
        {"options": PriorOptions("rbf", 5)},
        {"options": PriorOptions(order="rows")},
        {"options": PriorOptions(order="rows", summaries=3)},
        {"options": ROWS, "cell_attention": partial(Local, window=3), "target_attention": MECHANISMS["Linear"]},
        {"options": ROWS, "thinking_rows": 0, "hidden": 10},
    ],
    ids=str,
)
def test_every_argument_is_described(tmp_path: Path, changes: Any) -> None:
    network = tiny_network(**changes)
    tensors, arguments = weights.described(network)
    weights.write(tmp_path / "a.safetensors", tensors, {"network": arguments})
    same(network, weights.load_network(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row_dim": 10**9}, "options.row_dim is 1000000000, and its weights allow"),
        ({"row_layers": 10**9}, "options.row_layers is 1000000000, and its weights allow"),
        ({"row_layers": 0}, "weights are missing, such as thinking"),
        ({"row_hidden": 19}, "weight .* has the shape"),
        ({"summaries": 3}, "weight .* has the shape"),
        ({"row_heads": 0}, "dim must be a multiple of heads, got dim 12 and heads 0"),
        ({"row_dim": 12.0}, "options.row_dim must be a whole number, got 12.0"),
        ({"radial": 10**9}, "options.radial is 1000000000, and its weights allow"),
        ({"radial": 6}, "weight cells.linear.weight has the shape"),
        ({"order": "columns"}, "order must be rows where there are summaries"),
        ({"colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_options_that_do_not_fit_the_weights(tmp_path: Path, changes: Any, message: str) -> None:
    tensors, described = weights.described(tiny_network(options=ROWS))
    described["init_args"]["options"] |= changes
    weights.write(tmp_path / "a.safetensors", tensors, {"network": described})
    with pytest.raises(ValueError, match=message):
        weights.load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize("options", [[1], "rows", None])
def test_options_of_another_kind(tmp_path: Path, options: Any) -> None:
    tensors, described = weights.described(tiny_network(options=ROWS))
    described["init_args"]["options"] = options
    weights.write(tmp_path / "a.safetensors", tensors, {"network": described})
    with pytest.raises(ValueError, match="options must be a mapping of PriorOptions' arguments, got"):
        weights.load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize("unused", [{"thinking_rows": 0, "feature_group": 3}, {"thinking_rows": 16}], ids=str)
def test_files_of_legacy_networks_may_have_unused_arguments(tmp_path: Path, unused: Any) -> None:
    network = tiny_network(**LEGACY)
    tensors, described = weights.described(network)
    flat = described["init_args"] | {"profile": "legacy"} | unused
    weights.write(tmp_path / "a.safetensors", tensors, {"network": flat})
    same(network, weights.load_network(tmp_path / "a.safetensors"))


def test_building_leaves_random_numbers_alone(packaged: Path) -> None:
    state = torch.get_rng_state()
    weights.load_network()
    assert torch.equal(torch.get_rng_state(), state)


def test_an_attention_from_outside_must_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Outside(Softmax):
        """An attention of somebody else."""

    monkeypatch.setattr(Outside, "__module__", "somebody")
    path = tmp_path / "a.safetensors"
    tensors, arguments = weights.described(tiny_network(attention=Outside))
    weights.write(path, tensors, {"network": arguments})
    module = types.ModuleType("somebody")
    module.__dict__["Outside"] = Outside
    monkeypatch.setitem(sys.modules, "somebody", module)
    with pytest.raises(ValueError, match=r"'somebody\.Outside' is not imported: .* by TABATTN_ALLOW=somebody$"):
        weights.load_network(path)
    monkeypatch.setenv(VARIABLE, "another, somebody")
    assert isinstance(row_mechanism(weights.load_network(path)), Outside)


@pytest.mark.parametrize("changes", [{}, {"attention": partial(Local, window=3)}, LEGACY], ids=str)
def test_a_checkpoint_is_a_model(tmp_path: Path, table: MakeTable, changes: Any) -> None:
    network = checkpoint(tmp_path / "run.ckpt", **changes)
    same(network, weights.load_network(tmp_path / "run.ckpt"))
    x, y = table()
    assert TabularClassifier(tmp_path / "run.ckpt").fit(x, y).predict_proba(x).shape == (20, 3)


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there are no weights at .*none\.ckpt$"):
        weights.load_network(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        weights.load_network(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"no checkpoint of .* or PriorRegression: its task is not named"):
        weights.load_network(tmp_path / "other.ckpt")


def test_no_packaged_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: MakeTable) -> None:
    monkeypatch.setattr(weights, "packaged_path", lambda name: tmp_path / "prior.safetensors")
    with pytest.raises(FileNotFoundError, match="give a file or a network as model"):
        TabularClassifier().fit(*table())


def test_package_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "prior.safetensors"
    network = checkpoint(tmp_path / "run.ckpt", attention=partial(Local, window=3))
    package_weights.main([str(tmp_path / "run.ckpt"), "--out", str(path), "--fact", "hardware=one core"])
    same(network, weights.load_network(path))
    assert "from 1 checkpoints" in capsys.readouterr().out
    _, header = weights.read(path)
    assert header["training"]["hardware"] == "one core"
    assert header["training"]["checkpoints"][0]["steps"] == 0
    assert os.listdir(path.parent) == ["prior.safetensors"]


def test_package_weights_of_half_the_size(tmp_path: Path) -> None:
    network = checkpoint(tmp_path / "run.ckpt", options=ROWS)
    sizes = {}
    for dtype in ("float32", "float16"):
        path = tmp_path / f"{dtype}.safetensors"
        assert package_weights.main([str(tmp_path / "run.ckpt"), "--out", str(path), "--dtype", dtype]) == 0
        sizes[dtype] = sum(value.nbytes for value in weights.read(path)[0].values())
    assert sizes["float16"] * 2 == sizes["float32"]
    loaded = weights.load_network(path)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), rtol=0, atol=0)


def test_package_weights_averages(tmp_path: Path) -> None:
    paths = [tmp_path / f"{shift}.ckpt" for shift in (0.0, 0.5)]
    first, last = (checkpoint(path, shift) for path, shift in zip(paths, (0.0, 0.5), strict=True))
    package_weights.package(paths, tmp_path / "mean.safetensors", {})
    mean = weights.load_network(tmp_path / "mean.safetensors").state_dict()
    for name, value in first.state_dict().items():
        torch.testing.assert_close(mean[name], (value + last.state_dict()[name]) / 2)


def test_package_weights_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mean.safetensors"
    checkpoint(tmp_path / "a.ckpt")
    checkpoint(tmp_path / "b.ckpt", hidden=16)
    assert package_weights.main([str(tmp_path / "a.ckpt"), str(tmp_path / "b.ckpt"), "--out", str(out)]) == 2
    assert re.search(r"^error: .*b\.ckpt has another network than .*a\.ckpt$", capsys.readouterr().err, re.M)
    assert package_weights.main([str(tmp_path / "none.ckpt"), "--out", str(out)]) == 2
    assert re.search(r"^error: .*none\.ckpt", capsys.readouterr().err, re.M)
    assert not out.exists()


def test_a_callers_network_of_another_device_or_type(table: MakeTable) -> None:
    x, y = table()
    model = TabularClassifier(tiny_network().double()).fit(x, y)
    assert {value.dtype for value in model.network_.parameters()} == {torch.float32}
    assert isinstance(model.network_, PriorNetwork)
