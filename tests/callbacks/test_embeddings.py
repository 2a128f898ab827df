"""Embeddings: outputs of layers in files of TensorBoard's projector."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import text_format  # type: ignore[import-untyped]
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from callbacks import Embeddings
from callbacks.projector import thumbnails, write_points
from tests.callbacks.tiny import DIM, TOKENS, Batch, TinyTask, fit, loader, trainer


class Described(TinyTask):
    """Knows the label of every token's item."""

    def token_metadata(self, layer: str, batch: Batch, output: Tensor) -> dict[str, list[Any]] | None:
        return {"label": [f"{y:.3f}\t" for y in batch.y.tolist() for _ in range(output.shape[1])]}


def folder(tmp_path: Path) -> Path:
    return tmp_path / "board" / "version_0"


def index(home: Path) -> dict[str, Any]:
    config = ProjectorConfig()
    text_format.Parse((home / "projector_config.pbtxt").read_text(), config)
    assert len({entry.tensor_name for entry in config.embeddings}) == len(config.embeddings)
    return {entry.tensor_name: entry for entry in config.embeddings}


def table(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file, delimiter="\t"))


def points(path: Path) -> Tensor:
    return torch.tensor([[float(value) for value in row] for row in table(path)])


def test_all_tokens_are_written_with_their_values_and_places(tmp_path: Path) -> None:
    task = Described()
    fit(tmp_path, task, Embeddings(["blocks.0"]))
    entry = index(folder(tmp_path))["blocks.0:00006"]
    first, second = (batch.x for batch in loader(2))
    with torch.no_grad():
        expected = task.blocks[0](torch.cat([first, second])).flatten(0, 1)
    torch.testing.assert_close(points(folder(tmp_path) / entry.tensor_path), expected, rtol=1e-5, atol=1e-6)
    header, *rows = table(folder(tmp_path) / entry.metadata_path)
    assert header == ["label", "batch", "item", "token"]
    assert len(rows) == len(expected)
    assert [row[1:] for row in rows[: TOKENS + 1]] == [["0", "0", str(token)] for token in range(TOKENS)] + [
        ["0", "1", "0"]
    ]
    assert rows[0][0] == f"{next(iter(loader(2))).y[0]:.3f}"


def test_a_sample_is_bounded_shared_by_the_batches_and_the_same_each_time(tmp_path: Path) -> None:
    fit(tmp_path, TinyTask(), Embeddings(["blocks.1"], limit=10, batches=2))
    entries = index(folder(tmp_path)).values()
    assert len(entries) == 2
    tables = [table(folder(tmp_path) / entry.metadata_path) for entry in entries]
    assert tables[0] == tables[1]
    assert [row[0] for row in tables[0][1:]] == ["0"] * 5 + ["1"] * 5
    assert points(folder(tmp_path) / next(iter(entries)).tensor_path).shape == (10, DIM)


def test_batches_are_spread_over_the_validation(tmp_path: Path) -> None:
    run = trainer(tmp_path, [Embeddings(["head"], batches=4, limit=8)])
    run.validate(TinyTask(), loader(10), verbose=False)
    _, *rows = table(folder(tmp_path) / index(folder(tmp_path))["head:00000"].metadata_path)
    assert [row[0] for row in rows] == [number for number in ("0", "3", "5", "8") for _ in range(2)]


def test_a_short_validation_still_fills_the_limit(tmp_path: Path) -> None:
    trainer(tmp_path, [Embeddings(["head"], batches=4, limit=8)]).validate(TinyTask(), loader(1), verbose=False)
    assert len(points(folder(tmp_path) / index(folder(tmp_path))["head:00000"].tensor_path)) == 8


def test_a_single_column_has_no_header(tmp_path: Path) -> None:
    class Pooled(TinyTask):
        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.head(self.blocks[0](x).mean(1))
            return scores[:, 0]

    fit(tmp_path, Pooled(), Embeddings(["head"], batches=1), max_epochs=1)
    entry = index(folder(tmp_path))["head:00003"]
    assert table(folder(tmp_path) / entry.metadata_path) == [["0"], ["1"], ["2"], ["3"]]
    assert points(folder(tmp_path) / entry.tensor_path).shape == (4, 1)


def test_only_the_last_steps_stay_and_the_index_names_exactly_what_is_there(tmp_path: Path) -> None:
    fit(tmp_path, TinyTask(), Embeddings(["blocks.0", "blocks.1"], keep=2), max_epochs=4)
    home = folder(tmp_path)
    entries = index(home)
    assert set(entries) == {f"blocks.{number}:{step:05d}" for number in range(2) for step in (9, 12)}
    assert {str(path.relative_to(home)) for path in home.rglob("tensors.tsv")} == {
        entry.tensor_path for entry in entries.values()
    }
    assert {path.name for path in home.iterdir() if path.is_dir()} == {"00009", "00012"}


def test_a_resumed_run_keeps_what_the_folder_already_holds(tmp_path: Path) -> None:
    for step in (1, 2, 2):
        writer = SummaryWriter(tmp_path)
        write_points(writer, "a/b", step, torch.full((3, 4), step), {"n": [1, 2, 3]}, sprites=False, keep=2)
        writer.close()
    entries = index(tmp_path)
    assert set(entries) == {"a/b:00001", "a/b:00002"}
    assert points(tmp_path / entries["a/b:00001"].tensor_path).unique().tolist() == [1]


def test_the_default_layer_is_the_last_block_with_attention(tmp_path: Path) -> None:
    fit(tmp_path, TinyTask(), Embeddings(), max_epochs=1)
    assert set(index(folder(tmp_path))) == {"blocks.1:00003"}


def test_a_test_run_is_written_under_its_own_name(tmp_path: Path) -> None:
    trainer(tmp_path, [Embeddings(["head"])]).test(TinyTask(), loader(), verbose=False)
    assert set(index(folder(tmp_path))) == {"test/head:00000"}


def test_sprites_show_the_vectors(tmp_path: Path) -> None:
    fit(tmp_path, TinyTask(), Embeddings(["blocks.0"], limit=9, batches=1, sprites=True), max_epochs=1)
    entry = index(folder(tmp_path))["blocks.0:00003"]
    assert list(entry.sprite.single_image_dim) == [16, 16]
    with Image.open(folder(tmp_path) / entry.sprite.image_path) as image:
        assert image.size == (48, 48)
    images = thumbnails(torch.tensor([[0.0, 1.0], [2.0, 4.0]]))
    assert images.shape == (2, 3, 16, 16)
    assert images[:, 0].flatten(1)[:, [0, -1]].tolist() == [[0, 0.25], [0.5, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": []}, "layers must name at least one layer"),
        ({"limit": 5001}, r"limit must be in \[1, 5000\], got 5001"),
        ({"limit": 3, "batches": 4}, r"batches must be in \[1, limit = 3\], got 4"),
        ({"keep": 0}, "keep must be at least 1, got 0"),
        ({"every": 0}, "every must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embeddings(**arguments)


def test_an_unknown_layer_is_answered_with_the_nearest_ones(tmp_path: Path) -> None:
    with pytest.raises(
        MisconfigurationException, match=r"TinyTask has no layer 'block.1'; the nearest are: blocks.1, "
    ):
        fit(tmp_path, TinyTask(), Embeddings(["block.1"]))


def test_metadata_that_does_not_fit_the_tokens_is_refused(tmp_path: Path) -> None:
    class Short(TinyTask):
        def token_metadata(self, layer: str, batch: Batch, output: Tensor) -> dict[str, list[Any]] | None:
            return {"label": [1, 2]}

    with pytest.raises(ValueError, match=r"metadata 'label' of layer blocks.0 has 2 values, not 20"):
        fit(tmp_path, Short(), Embeddings(["blocks.0"]))


def test_a_layer_that_does_not_run_is_reported(tmp_path: Path) -> None:
    class Idle(TinyTask):
        def probe(self, batch: Batch) -> Tensor:
            return batch.x

    with pytest.warns(UserWarning, match=r"Embeddings saw no output of layer blocks.0"):
        fit(tmp_path, Idle(), Embeddings(["blocks.0"]), max_epochs=1)
