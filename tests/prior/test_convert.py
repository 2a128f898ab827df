"""Converted networks, against an independent forward pass, in every way to load them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import datamodules  # noqa: F401
from tabattn.attention import Local, Softmax
from tabattn.convert import convert, main
from tabattn.tasks import PriorClassification
from tabattn.training import cli
from tests.foreign import CLASSES, HEADS, KINDS, POINTS, WINDOW, make, reference

ROWS, CONTEXT = 13, 10


def tables() -> tuple[Tensor, Tensor]:
    x = torch.randn(2, ROWS, 3)
    x[:, :, 1] *= 1000
    return x, torch.randint(0, CLASSES, (2, ROWS))


def save(content: object, folder: Path, name: str = "theirs.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def arguments(kind: str) -> dict[str, Any]:
    return {"attention": None if kind == "Shared" else kind, "window": WINDOW.get(kind), "heads": HEADS}


def load(path: Path) -> Any:
    return PriorClassification.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_original(kind: str, layers: int, tmp_path: Path) -> None:
    weights = make(kind, layers)
    found = convert(save(weights, tmp_path), tmp_path / "ours.ckpt", **arguments(kind))
    x, y = tables()
    torch.testing.assert_close(
        load(tmp_path / "ours.ckpt").network(x, y, CONTEXT),
        reference(weights, kind, layers, x, y, CONTEXT),
        rtol=1e-4,
        atol=1e-4,
    )
    assert (found.size.layers, found.size.classes, found.heads) == (layers, CLASSES, HEADS)
    assert found.size.points == (POINTS if kind == "Pooling" else 0)
    assert ("left out" in str(found)) == (kind != "Shared")


def test_every_weight_matters_but_those_left_out(tmp_path: Path) -> None:
    """A weight that the converter forgot would keep a random value of the new network."""
    weights = make("Scratch", 2)
    path, out = save(weights, tmp_path), tmp_path / "ours.ckpt"
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        convert(path, out, **arguments("Scratch"))
        states.append(torch.load(out, weights_only=True)["state_dict"])
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name]), name


def test_the_heads_of_a_training_state_are_read(tmp_path: Path) -> None:
    weights = make("Shared", 2)
    architecture = {"num_attention_heads": HEADS, "embedding_size": 8}
    content = {"epoch": 3, "architecture": architecture, "model": weights, "optimizer": {"state": {}}}
    path = save(content, tmp_path)
    found = convert(path, tmp_path / "ours.ckpt")
    assert (found.kind, found.heads) == ("Original", HEADS)
    x, y = tables()
    want = reference(weights, "Shared", 2, x, y, CONTEXT)
    torch.testing.assert_close(load(tmp_path / "ours.ckpt").network(x, y, CONTEXT), want, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="heads must be 2, as the file says, got 4"):
        convert(path, tmp_path / "ours.ckpt", heads=4)


@pytest.mark.parametrize(
    ("name", "classes", "weights", "kind", "window"),
    [
        ("nanotabpfn_sparse_attention", 2, "Sparse", "Sparse", 8),
        ("nanotabpfn_sparse_attention_small", 2, "Sparse", "Sparse", 4),
        ("nanotabpfn_sparse_attention_big", 2, "Sparse", "Sparse", 30),
        ("nanotabpfn_local_attention", 2, "Local", "Local", 8),
        ("nanotabpfn_scratch_attention", 2, "Local", "Scratch", None),
        ("nanotabpfn_attention_from_scratch_prior_trained_seed0", 3, "Local", "Scratch", None),
        ("nanotabpfn_pooling_attention", 2, "Pooling", "Pooling", None),
        ("anything", 2, "Original", "Original", None),
    ],
)
def test_names_of_published_files_tell_what_weights_do_not(
    name: str, classes: int, weights: str, kind: str, window: int | None, tmp_path: Path
) -> None:
    path = save(make(weights, 2, classes=classes), tmp_path, f"{name}.pt")
    found = convert(path, tmp_path / "ours.ckpt")
    assert (found.kind, found.window, found.heads) == (kind, window, 4)
    mechanism = load(tmp_path / "ours.ckpt").network.blocks[0].rows.context.mechanism
    assert getattr(mechanism, "window", None) == window


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nanotabpfn_local_opt_attention", "Optimized Local"),
        ("nanotabpfn_optimized_local_attention_prior_trained_seed0", "Optimized Local"),
        ("nanotabpfn_own_prior_trained_einstein_attention_with_mem_seed0", "Einstein"),
        ("nanotabpfn_local_attention_from_scratch_prior_trained_seed0", "Local"),
        ("nanotabpfn_local_attention", "Local"),
    ],
)
def test_a_window_nobody_recorded_must_be_given(name: str, kind: str, tmp_path: Path) -> None:
    path = save(make("Local", 2), tmp_path, f"{name}.pt")
    with pytest.raises(ValueError, match=f"no checkpoint holds the window of {kind} attention: say by --window"):
        convert(path, tmp_path / "ours.ckpt")
    assert convert(path, tmp_path / "ours.ckpt", window=5).window == 5


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, out = str(save(make("Sparse", 2), tmp_path)), str(tmp_path / "ours.ckpt")
    assert main([path, out, "--window=4", "--heads=2"]) == 0
    assert capsys.readouterr().out == (
        "theirs.pt: Sparse with window 4, layers 2, width 8, heads 2, classes 3; "
        "left out: the last layer's attention between context rows, which nothing reads\n"
    )
    assert main([path, out]) == 2
    assert capsys.readouterr().err.startswith("error: no checkpoint holds the window of Sparse attention")
    assert main([str(tmp_path / "none.pt"), out]) == 3
    assert capsys.readouterr().err.startswith("error: ")


DATA = ["--data=SyntheticPrior", "--data.tables=[sklearn:iris]", "--data.steps_per_epoch=1", "--data.batch_size=2"]
DATA += ["--data.rows=[12,16]", "--data.features=[2,3]", "--data.classes=[2,3]"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.logger=false"]
FLAGS = ["--model=PriorClassification", *DATA, *QUIET, "--trainer.accelerator=cpu"]
FIT = ["fit", *FLAGS, "--trainer.max_epochs=1", "--trainer.enable_checkpointing=false", "--optimizer.lr=0"]


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    convert(save(make("Local", 2), tmp_path), "ours.ckpt", **arguments("Local"))
    return "ours.ckpt"


def test_a_converted_network_is_tested(ours: str) -> None:
    tested: Any = cli.CLI(["test", *FLAGS, f"--ckpt_path={ours}"])
    mechanism = tested.model.network.blocks[0].rows.context.mechanism
    assert isinstance(mechanism, Local)
    assert (mechanism.window, mechanism.edges) == (WINDOW["Local"], "zero")
    for name, weight in load(Path(ours)).network.state_dict().items():
        torch.testing.assert_close(tested.model.network.state_dict()[name], weight, rtol=0, atol=0)


def test_a_converted_network_is_trained_on_with_another_mechanism(
    capsys: pytest.CaptureFixture[str], ours: str
) -> None:
    sizes = [
        "--model.network.dim=8",
        f"--model.network.heads={HEADS}",
        "--model.network.hidden=6",
        "--model.network.layers=2",
        "--model.network.classes=3",
    ]
    trained: Any = cli.CLI([*FIT, *sizes, "--model.network=NanoTabPFN", f"--model.init_from={ours}"])
    assert isinstance(trained.model.network.blocks[0].rows.context.mechanism, Softmax)
    for name, weight in load(Path(ours)).network.state_dict().items():
        torch.testing.assert_close(trained.model.network.state_dict()[name], weight, rtol=0, atol=0)
    assert "left as initialised" not in capsys.readouterr().err


def test_weights_alone_are_no_run_to_resume(capsys: pytest.CaptureFixture[str], ours: str) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main([*FIT, f"--ckpt_path={ours}"])
    assert leaving.value.code == 2
    assert "error: ckpt_path: the checkpoint holds weights alone" in capsys.readouterr().err
