"""A full disk during the output of a command: one line, status 3, and no partial file."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig

from callbacks import Trajectories
from callbacks.projector import INDEX, _write
from tabattn import TabularClassifier, convert
from tabattn.cli import main
from tabattn.prior.network import PriorNetwork
from tests.callbacks.pairs import TinyPairs, fit
from tests.storage.test_files import small_files

CONFIG = Path(__file__).parents[2] / "configs" / "pairs.yaml"
PREDICT = [
    *("predict", f"--config={CONFIG}", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    *("--data.evaluation.test_batches=1", "--data.batch_size=2", "--model.network.dim=8", "--model.network.heads=2"),
    *("--model.network.layers=2", "--model.inference.samples=1", "--model.inference.num_steps=2"),
]
EARLIER = "model:\n  class_path: PairInference\n  init_args:\n    arch: tnpd\n    dim: 64\n    residual: nearest\n"


def full(*_: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.filterwarnings("ignore:.*random|.*initialised")
def test_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tabattn.training.predictions.write_file", full)
    assert main(PREDICT) == 3
    assert [line for line in capsys.readouterr().err.splitlines() if "error" in line] == [
        "error: No space left on device"
    ]
    assert not list(tmp_path.rglob("predictions/*"))


def test_a_converted_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "old.yaml", tmp_path / "new.yaml"
    source.write_text(EARLIER)
    out.write_text("kept")
    with small_files(40):
        status = convert.main([str(source), str(out)])
    assert status == 3
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert out.read_text() == "kept"
    assert source.read_text() == EARLIER
    assert sorted(os.listdir(tmp_path)) == ["new.yaml", "old.yaml"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, where this process may mount one."""
    disk = tmp_path / "small"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a disk is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def resize(disk: Path, kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kib}k", disk], check=True)


def classifier(layers: int) -> TabularClassifier:
    network = PriorNetwork(dim=16, heads=2, hidden=16, layers=layers, classes=4).eval()
    x = np.random.default_rng(0).normal(size=(30, 4))
    return TabularClassifier(network, n_estimators=1, device="cpu").fit(x, np.arange(30) % 3)


def test_a_saved_estimator(small: Path) -> None:
    """No room for a new one: neither under a new name nor over an earlier one."""
    path = small / "estimator.safetensors"
    classifier(1).save(path)
    before = path.read_bytes()
    resize(small, len(before) // 1024 + 8)
    large = classifier(4)
    for target in (path, small / "new.safetensors"):
        with pytest.raises(OSError, match="No space left on device") as caught:
            large.save(target)
        assert caught.value.filename == str(target)
    assert path.read_bytes() == before
    assert os.listdir(small) == [path.name]


@pytest.mark.parametrize("kib", [4, 24, 64])
def test_a_cache_of_pairs(
    small: Path, kib: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    resize(small, kib)
    call = ["test", *PREDICT[1:], "--data.evaluation.test_batches=8", "--data.batch_size=64"]
    assert main([*call, f"--data.cache.file={small / 'pairs.h5'}"]) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line.lower()]
    assert line == f"error: {small / 'pairs.h5'} cannot be written: No space left on device"
    assert not os.listdir(small)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kib", [12, 256])
def test_pictures_of_trajectories(small: Path, kib: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is there as a whole or not at all."""
    resize(small, kib)
    monkeypatch.setattr("callbacks.pictures.FOLDER", str(small))
    with pytest.raises(OSError, match="No space left on device") as caught:
        fit(small.parent, TinyPairs(), Trajectories(attention_steps=3), max_epochs=4)
    assert str(caught.value.filename).endswith(".png")
    files = [path for path in small.rglob("*") if path.is_file()]
    assert bool(files) == (kib > 12)
    for path in files:
        with Image.open(path) as picture:
            picture.load()


def test_the_index_of_embeddings(small: Path) -> None:
    entry = {"tensor_name": "rows:00001", "tensor_path": "00001/rows/tensors.tsv"}
    _write(small, ProjectorConfig(embeddings=[entry]))
    before = (small / INDEX).read_bytes()
    with pytest.raises(OSError, match="No space left on device"):
        _write(small, ProjectorConfig(embeddings=[entry] * 2000))
    assert (small / INDEX).read_bytes() == before
    assert os.listdir(small) == [INDEX]
