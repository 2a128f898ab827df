"""Command that converts files of sparse attention graphs: messages and exit statuses."""

import json
from pathlib import Path

import pytest
import torch

from datamodules.sparsity import __main__ as command
from datamodules.sparsity.records import RecordFile, write_records
from tabattn.contract.queries_keys import Layer
from tabattn.sparsity.options import ClusterOptions
from tabattn.sparsity.task import SparsefinderProjections
from tabattn.storage.files import write_checkpoint
from tabattn.storage.projection_files import LayerProjection, read_projections, write_projections
from tests.datamodules.sparsity.records import dumpable


def run(*arguments: str | Path) -> int:
    return command.main(list(map(str, arguments)))


def test_queries_and_keys_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_records(tmp_path / "a.h5", dumpable())
    assert run("--convert", tmp_path / "a.h5", "--out", tmp_path / "a.pt") == 0
    assert capsys.readouterr().out == f"{tmp_path}/a.pt: 2 layers, 10 items, at most 7 keys\n"
    paths = ("--paths", "network.0", "network.1")
    assert run("--convert", tmp_path / "a.pt", "--out", tmp_path / "b.h5", *paths) == 0
    read = RecordFile(tmp_path / "b.h5")
    assert [each.layer.path for each in read.layers] == ["network.0", "network.1"]
    assert torch.equal(read.item(1, 3).k, dumpable().item(1, 3).k)
    assert run("--check", tmp_path / "b.h5") == 0
    assert run("--convert", tmp_path / "a.pt", "--out", tmp_path / "b.h5") == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/b.h5 exists: give another name, or --overwrite\n"


def projections(heads: int = 2, clusters: int | None = 3) -> dict[str, LayerProjection]:
    def state() -> dict[str, torch.Tensor]:
        return {"w": torch.randn(heads, 8, 4), "b": torch.randn(heads, 1, 4)}

    def centroids() -> torch.Tensor | None:
        return None if clusters is None else torch.randn(heads, 1, clusters, 4)

    # Twelve layers: the tenth is behind the second.
    return {
        f"network.{number}.mechanism": LayerProjection(state(), state(), False, centroids()) for number in range(12)
    }


def test_projections_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = projections()
    write_projections(tmp_path / "a.safetensors", layers)
    out = ("--out", tmp_path / "a.pickle", "--centroids", tmp_path / "c.pickle")
    assert run("--convert", tmp_path / "a.safetensors", *out) == 0
    assert "12 layers; layers.0: heads 2, head_dim 8, width 4" in capsys.readouterr().out
    loaded = torch.load(tmp_path / "a.pickle")
    assert torch.equal(loaded[10]["k"]["w"], layers["network.10.mechanism"].k["w"])
    back = ("--out", tmp_path / "b.safetensors", "--centroids", tmp_path / "c.pickle", "--paths", *layers)
    assert run("--convert", tmp_path / "a.pickle", *back) == 0
    again = read_projections(tmp_path / "b.safetensors")
    assert list(again) == list(layers)
    for name, layer in layers.items():
        assert torch.equal(again[name].q["b"], layer.q["b"])
        assert again[name].centroids is not None
        assert torch.equal(again[name].centroids, layer.centroids)


def test_projections_of_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = [Layer(f"network.{number}.mechanism", 2, 8, (1.5, 1.5), 8**-0.5) for number in (0, 1)]
    task = SparsefinderProjections(
        4, shared=False, clusters=ClusterOptions(3), layers=[each._asdict() for each in layers]
    )
    for maps in task.network.maps():
        maps.centroids.normal_()
    task.on_save_checkpoint(saved := {"state_dict": {}, "hyper_parameters": dict(task.hparams)})
    write_checkpoint(tmp_path / "best.ckpt", {**saved, "state_dict": task.state_dict()})
    assert run("--convert", tmp_path / "best.ckpt", "--out", tmp_path / "a.safetensors") == 0
    assert "2 layers; network.0.mechanism: heads 2, head_dim 8, width 4" in capsys.readouterr().out
    found = read_projections(tmp_path / "a.safetensors")
    told = json.loads((tmp_path / "a.json").read_text())
    assert list(found) == list(told["layers"]) == [each.path for each in layers]
    for maps, each in zip(task.network.maps(), found.values(), strict=True):
        assert torch.equal(each.k["w"], maps.projection.k.w)
        assert torch.equal(each.centroids, maps.centroids)
    out = ("--out", tmp_path / "p.pickle", "--centroids", tmp_path / "c.pickle")
    assert run("--convert", tmp_path / "best.ckpt", *out) == 0
    assert torch.equal(torch.load(tmp_path / "c.pickle")[1], task.network.maps()[1].centroids)
    assert run("--check", tmp_path / "best.ckpt") == 0
    assert run("--convert", tmp_path / "none.ckpt", "--out", tmp_path / "b.safetensors") == 2


def test_maps_of_both_together_and_unused_ones_are_said(tmp_path: Path) -> None:
    both = {"w": torch.randn(2, 16, 4), "b": torch.randn(2, 1, 4)}
    torch.save([{"q": both, "k": both}], tmp_path / "p.pickle")
    torch.save([torch.randn(2, 1, 3, 8)], tmp_path / "c.pickle")
    assert run("--convert", tmp_path / "p.pickle", "--concat", "--out", tmp_path / "a.safetensors") == 0
    (found,) = read_projections(tmp_path / "a.safetensors").values()
    assert (found.shared, found.sizes["head_dim"]) == ("concat", 8)
    skip = ("--skip", "--centroids", tmp_path / "c.pickle", "--out", tmp_path / "b.safetensors")
    assert run("--convert", tmp_path / "p.pickle", *skip) == 0
    (found,) = read_projections(tmp_path / "b.safetensors").values()
    assert (found.q, found.sizes["width"], found.sizes["head_dim"]) == ({}, None, 8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either --convert or --check"),
        (["--convert", "a.h5", "--check", "a.h5"], "give either --convert or --check"),
        (["--convert", "a.h5"], "--convert needs --out"),
        (["--convert", "a.h5", "--out", "a.pickle"], ".h5 to .pickle is no conversion; there are: .pt to .h5, "),
        (["--convert", "a", "--out", "a.pt"], "a file without ending to .pt is no conversion"),
        (["--convert", "a.h5", "--out", "b.pt"], "a.h5 is not there"),
        (["--convert", "a.pt", "--out", "b.h5"], "there is no file a.pt"),
        (["--convert", "c.h5", "--out", "b.pt", "--paths", "a"], "--paths must name the 2 layers, each once, got 1"),
        (["--convert", "c.h5", "--out", "b.pt", "--paths", "a", "a"], "--paths must name the 2 layers, each once"),
        (["--convert", "c.h5", "--out", "b.pt", "--centroids", "a"], "--centroids goes with projections only"),
        (["--convert", "c.h5", "--out", "b.pt", "--rescale"], "rescale is for dumps"),
        (
            ["--convert", "a.ckpt", "--out", "b.h5"],
            ".ckpt to .h5 is no conversion; there are: .pt to .h5, .h5 to .pt, ",
        ),
        (["--convert", "p.safetensors", "--out", "b.pickle", "--concat"], "--concat and --skip go with a .pickle"),
        (["--convert", "a.pt", "--out", "b.h5", "--skip"], "--concat and --skip go with a .pickle"),
        (
            ["--convert", "a.ckpt", "--out", "b.safetensors", "--centroids", "c"],
            "--centroids goes with a .pickle of projections only, got a checkpoint",
        ),
        (["--convert", "a.pickle", "--out", "b.safetensors", "--rescale"], "--rescale goes with dumps"),
        (
            ["--convert", "p.safetensors", "--out", "b.pickle", "--centroids", "c"],
            "there are no centroids to write to c",
        ),
        (
            ["--convert", "p.safetensors", "--out", "b.pickle", "--centroids", "c", "d"],
            "centroids are written to one file",
        ),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_records(Path("c.h5"), dumpable())
    write_projections("p.safetensors", projections(clusters=None))
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert said in message
    assert not Path("b.pt").exists()
    assert not Path("b.pickle").exists()
