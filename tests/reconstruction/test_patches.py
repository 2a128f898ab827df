"""PatchTransformer: patches are tokens, hidden ones are not read, and digits are recognised."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from callbacks import AttentionMaps, Embeddings
from datamodules import ImageCells
from datamodules.reconstruction import ContextOptions
from tabattn.attention import capture
from tabattn.contract.cells import CellBatch, Column
from tabattn.reconstruction import LossOptions, PatchTransformer, PredictOptions
from tabattn.reconstruction.cell_network import Reconstruction
from tabattn.reconstruction.deciding import decide
from tabattn.reconstruction.views import map_views, row_points
from tabattn.tasks import TableReconstruction
from tests.callbacks.test_embeddings import folder, index
from tests.callbacks.test_embeddings import table as metadata
from tests.callbacks.tiny import board, trainer

COLUMNS = (
    Column("a0", group="a"),
    Column("weight"),
    Column("b0", group="b"),
    Column("a1", group="a"),
    Column("b1", group="b"),
    Column("class", ("x", "y", "z"), target=True),
)


def network(columns: tuple[Column, ...] = COLUMNS, **options: Any) -> PatchTransformer:
    """Make a small network whose residual branches are not silent."""
    torch.manual_seed(0)
    made = PatchTransformer(columns, **{"dim": 8, "heads": 2, "hidden": 16, "layers": 2, **options}).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def cells(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw cells and a mask."""
    torch.manual_seed(1)
    x = torch.randn(2, rows, len(COLUMNS))
    x[..., 5] = torch.randint(3, x.shape[:2]).float()
    hidden = torch.rand(x.shape) < 0.3
    return torch.where(hidden, 0.0, x), hidden


def tensors(found: Reconstruction) -> list[torch.Tensor]:
    return [found.mean, found.density.mean, found.density.variance, found.logits]


def test_predictions_have_the_order_of_the_columns() -> None:
    model = network(layers=1)
    x, hidden = cells(5)
    found = model(x, hidden, 5)
    assert found.mean.shape == (2, 5, 5)
    assert found.logits.shape == (2, 5, 1, 3)
    own = [0, 2, 3, 4]
    torch.testing.assert_close(found.density.mean[..., own], found.mean[..., own])
    order = [3, 0, 1, 4, 2, 5]
    moved = network(tuple(COLUMNS[place] for place in order), layers=1)
    moved.load_state_dict(model.state_dict())
    # Pixels of a patch in another order are other inputs; a permutation of whole patches and single columns is not.
    with torch.no_grad():
        for weight in (moved.patch_embedding.weight,):
            weight.copy_(weight[:, [1, 0, 3, 2]])
        for part in (moved.patch_head.weight, moved.patch_head.bias):
            part.copy_(part[[1, 0, 3, 2]])
    other = moved(x[:, :, order], hidden[:, :, order], 5)
    torch.testing.assert_close(other.mean, found.mean[:, :, [3, 0, 1, 4, 2]])
    torch.testing.assert_close(other.density.variance, found.density.variance[:, :, [3, 0, 1, 4, 2]])
    torch.testing.assert_close(other.logits, found.logits)


def test_patches_share_their_layers_and_have_a_position() -> None:
    model = network()
    x, hidden = cells(4)
    x[..., [2, 4]], hidden[..., [2, 4]] = x[..., [0, 3]], hidden[..., [0, 3]]
    apart = model(x, hidden, 4).mean
    assert not torch.allclose(apart[..., 0], apart[..., 2])
    with torch.no_grad():
        model.position.copy_(model.position[:1].expand_as(model.position))
    same = model(x, hidden, 4).mean
    torch.testing.assert_close(same[..., 0], same[..., 2])
    torch.testing.assert_close(same[..., 3], same[..., 4])


def test_a_row_does_not_depend_on_other_queries_and_hidden_pixels_are_told() -> None:
    model = network()
    x, hidden = cells(6)
    before = tensors(model(x, hidden, 4))
    changed = x.clone()
    changed[:, 5] += 1.0
    for one, other in zip(before, tensors(model(changed, hidden, 4)), strict=True):
        torch.testing.assert_close(one[:, :5], other[:, :5])
    zeros = torch.zeros_like(hidden)
    assert not torch.allclose(model(x, hidden, 4).mean, model(x, zeros, 4).mean)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ((Column("a"), Column("class", ("x", "y"), target=True)), "needs groups of columns of one size.*got no group"),
        ((*COLUMNS, Column("c0", group="c")), r"got the sizes \[1, 2\]"),
        ((Column("a", ("x",), group="a"),), "columns in a group must be numeric features, got 'a'"),
        ((Column("a", target=True, group="a"),), "columns in a group must be numeric features, got 'a'"),
    ],
)
def test_bad_columns(columns: tuple[Column, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PatchTransformer(columns)


@pytest.mark.parametrize(("options", "said"), [({"dropout": 1.0}, "dropout must be"), ({"layers": 0}, "layers must")])
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PatchTransformer(COLUMNS, **options)


def test_training_on_digits_learns_classes_and_patches() -> None:
    lightning.seed_everything(0)
    data = ImageCells("digits", 4, context=ContextOptions(rows=128, partitions=1))
    small = partial(PatchTransformer, dim=16, heads=2, hidden=32, layers=1, dropout=0.0)
    task = TableReconstruction(small, loss=LossOptions(density=0.1))
    task.use_optimizer(partial(torch.optim.AdamW, lr=1e-2))
    trainer = lightning.Trainer(
        max_steps=60,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data)
    assert trainer.test(task, data, verbose=False)[0]["test/accuracy"] > 0.3


def test_a_token_of_the_class_decides_and_is_drawn_by_its_name() -> None:
    model = network()
    x, hidden = cells(6)
    hidden[:, 4:, 5] = True
    hidden[:, :4, 5] = False
    number = torch.arange(6).expand(2, -1)
    batch = CellBatch(torch.where(hidden, 0.0, x), hidden, x, hidden, 4, number)
    assert model.token_of == (0, 2, 1, 0, 1, 3)
    rows = [site.path for site in model.sites() if site.axis == "rows"]
    with capture(model, items=None) as maps:
        found = model(batch.x, batch.hidden, 4)
    expected = torch.stack([maps[path][0].weights[[3, 7]].mean((0, 1)) for path in rows]).mean(0)
    deciding = decide(model, batch, found, COLUMNS, PredictOptions(4))
    for row in range(2):
        weights = expected[4 + row][deciding.rows[row, 0]]
        torch.testing.assert_close(deciding.weights[row, 0], weights)
    views = map_views(model.sites(), batch, COLUMNS, None, 1, 8, model.token_of)
    assert [views[path].items for path in rows] == [{3: "column class"}] * 2
    (columns, *_) = (view for path, view in views.items() if path not in rows)
    assert columns.keys.names == columns.queries.names == ["a", "b", "weight", "class"]
    assert columns.keys.title == "4 groups and columns"
    output = torch.arange(2 * 6 * 4 * 2.0).view(2, 6, 4, 2)
    assert torch.equal(row_points(batch, COLUMNS, output, model.token_of), output[:, :, 3])


def test_maps_and_points_of_images_are_shown_while_training(tmp_path: Path) -> None:
    data = ImageCells("digits", 4, context=ContextOptions(rows=64, partitions=1), steps_per_epoch=1)
    small = partial(PatchTransformer, dim=8, heads=1, hidden=8, layers=1)
    callbacks = [AttentionMaps(items=1, heads=[0]), Embeddings(limit=40)]
    run = trainer(tmp_path, callbacks, max_epochs=1, limit_val_batches=1, num_sanity_val_steps=0)
    run.fit(TableReconstruction(small), data)
    images = board(tmp_path).Tags()["images"]
    assert any("rows" in tag for tag in images)
    assert any("features" in tag for tag in images)
    header, *points = metadata(folder(tmp_path) / next(iter(index(folder(tmp_path)).values())).metadata_path)
    assert header[:3] == ["class", "split", "row"]
    assert 0 < len(points) <= 40
