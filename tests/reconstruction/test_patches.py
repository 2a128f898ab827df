"""PatchTransformer: patches are tokens, hidden ones are not read, and digits are recognised."""

from functools import partial
from typing import Any

import lightning
import pytest
import torch

from datamodules import ImageCells
from datamodules.reconstruction import ContextOptions
from tabattn.contract.cells import Column
from tabattn.reconstruction import LossOptions, PatchTransformer
from tabattn.reconstruction.cell_network import Reconstruction
from tabattn.tasks import TableReconstruction

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
