"""Files of versions whose networks shared one list of arguments: they load, run and can be converted."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import callbacks  # noqa: F401  (makes the names of the commands known)
import datamodules  # noqa: F401
from tabattn.contract.batches import PairBatch
from tabattn.convert import main as convert
from tabattn.pairs import TNPA, TNPD, SeedNetwork, TokenOptions
from tabattn.prior import weights
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.network import PriorNetwork
from tabattn.storage.checkpoint_files import read
from tabattn.tasks import PairInference, PriorClassification
from tabattn.training.cli import main

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
SIZES: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 8, "layers": 2}
LOCAL = {"class_path": "tabattn.attention.Local", "init_args": {"window": 2}}
ARGUMENTS = {
    **{"arch": "tnpd", "dim": 64, "heads": 4, "hidden": 128, "layers": 4, "members": 2, "components": 1},
    **{"attention": {"class_path": "tabattn.attention.Softmax"}, "target_attention": None, "residual": "none"},
    **{"member_embed": "one_hot", "fourier": 2, "centred": False, "norm": "after"},
}
"""Arguments of the task in a checkpoint of such a version, at their defaults."""
NETWORKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tnpd": (
        partial(TNPD, **SIZES, centred=True, residual="parallel", norm="before", tokens=TokenOptions(fourier=3)),
        {"centred": True, "residual": "parallel", "norm": "before", "fourier": 3},
    ),
    "tnpa": (partial(TNPA, **SIZES, tokens=TokenOptions("learned")), {"arch": "tnpa", "member_embed": "learned"}),
    "seed": (partial(SeedNetwork, **SIZES, components=2), {"arch": "seed", "components": 2}),
}
"""For each word of such a version: the network it means, and the arguments that said so."""
PAIRS = ["--data=SyntheticPairs", "--data.points=[8,8]", "--data.context=3", "--data.batch_size=2"]
PAIRS += ["--data.evaluation.test_batches=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(params=NETWORKS)
def earlier(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PairInference:
    """A task, whose checkpoint ``old.ckpt`` has the form of such a version."""
    monkeypatch.chdir(tmp_path)
    network, changes = NETWORKS[request.param]
    task = PairInference(network)
    known = {"_instantiator": INSTANTIATOR, "_class_path": "tabattn.tasks.PairInference"}
    content = {
        "epoch": 0,
        "global_step": 3,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": task.state_dict(),
        "hyper_parameters": {**known, **ARGUMENTS, **SIZES, **changes},
    }
    torch.save(content, "old.ckpt")
    return task


def mean(task: PairInference) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 9, generator=source), torch.randn(2, 9, generator=source)
    return task.eval()(PairBatch(x, y, torch.arange(9).expand(2, -1) % 2, 5)).mean


def test_an_earlier_checkpoint_loads_bit_for_bit(earlier: PairInference) -> None:
    loaded = PairInference.load_from_checkpoint("old.ckpt")
    assert type(loaded.network) is type(earlier.network)
    assert torch.equal(mean(loaded), mean(earlier))


@pytest.mark.filterwarnings("ignore:x leaves the range of training")
def test_an_earlier_checkpoint_is_tested_by_the_command_line(earlier: PairInference) -> None:
    assert main(["test", "--model=PairInference", *PAIRS, "--ckpt_path=old.ckpt"]) == 0


def test_an_earlier_checkpoint_becomes_one_of_today(earlier: PairInference, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(["old.ckpt", "new.ckpt"]) == 0
    said = capsys.readouterr().out
    assert f"network: tabattn.pairs.{type(earlier.network).__name__}\n" in said
    assert "dim: 8 -> network.dim: 8\n" in said
    assert ("norm: after -> left out" in said) == isinstance(earlier.network, SeedNetwork)
    today = read("new.ckpt")
    assert not ARGUMENTS.keys() - {"attention", "target_attention"} & today["hyper_parameters"].keys()
    assert today["global_step"] == 3
    assert torch.equal(mean(PairInference.load_from_checkpoint("new.ckpt")), mean(earlier))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of the form of such a version."""
    monkeypatch.chdir(tmp_path)
    content = {
        "model": {"class_path": "PairInference", "init_args": {"arch": "tnpa", **SIZES, "fourier": 1}},
        "data": {"class_path": "SyntheticPairs", "init_args": {"points": [8, 8], "context": 3, "batch_size": 2}},
        "trainer": {"accelerator": "cpu", "fast_dev_run": True, "enable_progress_bar": False},
        "optimizer": {"class_path": "AdamW", "init_args": {"lr": 1e-3}},
    }
    path = Path("old.yaml")
    path.write_text("# Whose it is.\n" + yaml.safe_dump(content))
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(["fit", *arguments])
    assert leaving.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def test_an_earlier_configuration_is_refused_in_a_line_that_says_what_to_do(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, f"--config={config}")
    assert line.startswith("error: model: ")
    assert line.endswith(" today, and python -m tabattn.convert OLD.yaml NEW.yaml rewrites a configuration")


def test_an_earlier_configuration_becomes_one_of_today(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert([str(config), "new.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "old.yaml: 6 arguments moved"
    assert "model.arch: tnpa -> network: tabattn.pairs.TNPA" in lines
    assert "model.fourier: 1 -> network.tokens.fourier: 1" in lines
    assert Path("new.yaml").read_text().startswith("# Whose it is.\n")
    assert main(["fit", "--config=new.yaml"]) == 0


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_an_earlier_configuration_of_a_command_becomes_one_of_today(
    config: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a run saves one that was started with several."""
    config.write_text(yaml.safe_dump({command: yaml.safe_load(config.read_text())}))
    assert convert([str(config), "new.yaml"]) == 0
    assert "6 arguments moved" in capsys.readouterr().out
    model = yaml.safe_load(Path("new.yaml").read_text())[command]["model"]["init_args"]
    assert model["network"]["class_path"] == "tabattn.pairs.TNPA"
    assert "arch" not in model


@pytest.mark.parametrize(
    ("flag", "today"),
    [
        ("--model.arch=tnpa", "--model.network"),
        ("--model.dim=48", "--model.network.dim"),
        ("--model.member_embed=hidden", "--model.network.tokens.member_embed"),
    ],
)
def test_an_earlier_flag_is_refused_with_the_one_of_today(
    flag: str, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"; it is {today} today, and python" in refused(capsys, "--model=PairInference", flag)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: [", "is no YAML"),
        ("- 3", "is no configuration"),
        ("model: {init_args: {dim: 3}}", "model has no class_path"),
        ("model: {class_path: os.system, init_args: {dim: 3}}", "'os.system' is not imported"),
        ("model: {class_path: PairInference, init_args: {arch: none}}", "arch must be one of tnpd, tnpa, seed"),
    ],
)
def test_what_cannot_be_rewritten_is_one_line(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "old.yaml"
    source.write_text(content)
    assert convert([str(source), str(tmp_path / "new.yaml")]) in (2, 3)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new.yaml").exists()


PRIORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "default": (
        partial(PriorNetwork, **SIZES, classes=3, thinking_rows=2),
        {"classes": 3, "thinking_rows": 2, "feature_group": None, "cell_attention": None, "options": {"radial": 16}},
    ),
    "legacy": (partial(NanoTabPFN, **SIZES, classes=3), {"profile": "legacy", "classes": 3, "thinking_rows": None}),
}
"""For each profile of such a version: the network it means, and the arguments that said so."""


@pytest.fixture(params=PRIORS)
def classifier(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PriorClassification:
    """A task, whose checkpoint ``old.ckpt`` and file of weights ``old.safetensors`` have the form of such a version."""
    monkeypatch.chdir(tmp_path)
    network, changes = PRIORS[request.param]
    task = PriorClassification(network).eval()
    arguments = {**SIZES, "attention": {"class_path": "tabattn.attention.Softmax", "init_args": {}}, **changes}
    known = {"_instantiator": INSTANTIATOR, "_class_path": "tabattn.tasks.PriorClassification", "permutations": 1}
    content = {"epoch": 0, "global_step": 3, "pytorch-lightning_version": "2.6.0", "state_dict": task.state_dict()}
    torch.save({**content, "hyper_parameters": {**known, **arguments}}, "old.ckpt")
    weights.write("old.safetensors", task.state_dict(), {"network": arguments})
    return task


@torch.no_grad()
def test_an_earlier_classifier_loads_bit_for_bit(classifier: PriorClassification) -> None:
    assert convert(["old.ckpt", "new.ckpt"]) == 0
    x, y = torch.randn(2, 9, 3), torch.arange(9).expand(2, -1) % 3
    loaded = [weights.load_network(file) for file in ("old.ckpt", "old.safetensors")]
    loaded += [PriorClassification.load_from_checkpoint(file).eval().network for file in ("old.ckpt", "new.ckpt")]
    for network in loaded:
        assert type(network) is type(classifier.network)
        for name, weight in classifier.network.state_dict().items():
            assert network.state_dict()[name].equal(weight)
        # Where weights lie in memory decides over the last bit.
        torch.testing.assert_close(network(x, y, 6), classifier.network(x, y, 6), rtol=0, atol=1e-6)


def test_arguments_of_two_versions_are_refused() -> None:
    with pytest.raises(ValueError, match="dim is of an earlier version and network of today"):
        PriorClassification.upgraded({"dim": 8, "network": {"class_path": "NanoTabPFN"}})
