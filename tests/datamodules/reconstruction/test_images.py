"""Images as rows of a table: patches are cut from the image, hidden as a whole, and standardised by channel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import ImageCells
from datamodules.reconstruction import ContextOptions, MaskOptions, SplitOptions
from datamodules.reconstruction.images import patches, read_images
from datamodules.reconstruction.splits import TEST, TRAIN
from tabattn.contract.errors import DataError


def npz(folder: Path, **arrays: Any) -> str:
    """Write an .npz file of 30 small colour images."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 255, (30, 4, 6, 3), dtype=np.uint8)
    images[..., 1] //= 4
    path = folder / "small.npz"
    np.savez(path, **{"images": images, "labels": np.arange(30) % 3, **arrays})
    return str(path)


def test_a_patch_is_a_square_of_the_image_over_all_channels() -> None:
    image = np.arange(4 * 6 * 2).reshape(1, 4, 6, 2)
    cut = patches(image, 2)
    assert cut.shape == (1, 6, 8)
    for place, (top, left) in enumerate((top, left) for top in (0, 2) for left in (0, 2, 4)):
        assert (cut[0, place].reshape(2, 2, 2) == image[0, top : top + 2, left : left + 2]).all()


def test_pixels_are_standardised_by_channel_of_the_training_images(tmp_path: Path) -> None:
    source = npz(tmp_path)
    data = ImageCells(source, 2)
    images = read_images(source, "").pixels
    train = (data.cells.roles == TRAIN).numpy()
    assert len(data.columns) == 4 * 6 * 3 + 1
    for channel in range(3):
        column = data.columns[channel]
        assert column.mean == pytest.approx(images[train][..., channel].mean())
        assert column.std == pytest.approx(images[train][..., channel].std())
    mean, std = (torch.tensor([getattr(column, part) for column in data.columns[:-1]]) for part in ("mean", "std"))
    back = (data.cells.truth[:, :-1] * std + mean).reshape(30, 6, 12).round().numpy()
    assert (back == patches(images, 2)).all()
    assert data.cells.truth[:, -1].tolist() == [place % 3 for place in range(30)]
    assert data.columns[-1].target
    assert data.columns[-1].categories == ("0", "1", "2")


def test_all_images_may_give_the_statistics(tmp_path: Path) -> None:
    source = npz(tmp_path)
    data = ImageCells(source, 2, context=ContextOptions(transductive=True))
    assert data.columns[1].mean == pytest.approx(read_images(source, "").pixels[..., 1].mean())


def test_patches_are_hidden_as_a_whole(tmp_path: Path) -> None:
    masks = MaskOptions(features=0.5, randomised=0.3)
    data = ImageCells(npz(tmp_path), 2, masks=masks)
    batch = data.train_dataloader().dataset[0]
    for part in (batch.hidden, batch.scored):
        by_patch = part[0, :, :-1].unflatten(1, (6, 12))
        assert (by_patch.all(-1) == by_patch.any(-1)).all()
        assert 0.2 < by_patch.float().mean() < 0.7
        assert by_patch[..., 0].any(0).all(), "each patch is hidden somewhere"
        assert not by_patch[:, :, 0].all(1).all()
    random = batch.scored & ~batch.hidden
    assert random[0, :, :-1].any()
    assert (batch.x != batch.truth)[random].float().mean() > 0.9


def test_each_image_is_scored_once_and_the_last_may_be_the_test_images(tmp_path: Path) -> None:
    data = ImageCells(npz(tmp_path), 2, split=SplitOptions(test_rows=9), context=ContextOptions(rows=12))
    rows = torch.cat([batch.row[0, batch.context :] for batch in data.test_dataloader()])
    assert sorted(rows.tolist()) == list(range(21, 30))
    assert (data.cells.roles[21:] == TEST).all()


def test_constant_and_grey_images(tmp_path: Path) -> None:
    grey = np.zeros((30, 4, 4))
    data = ImageCells(npz(tmp_path, images=grey), 4)
    assert (data.cells.truth[:, :-1] == 0).all()
    assert {column.group for column in data.columns[:-1]} == {"patch 0"}


def test_digits() -> None:
    data = ImageCells()
    assert data.cells.truth.shape == (1797, 65)
    assert len({column.group for column in data.columns}) == 17


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("digit", ValueError, "images must be digits, mnist, cifar10 or an .npz file, got 'digit'"),
        ("nowhere.npz", DataError, "there is no file nowhere.npz"),
    ],
)
def test_a_wrong_source_is_refused(source: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ImageCells(source)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"labels": np.arange(4)}, r"with a label each, got \(30, 4, 6, 3\) and \(4,\)"),
        ({"images": np.zeros((30, 4))}, r"must be \(images, height, width\) or"),
        ({"images": np.full((30, 2, 2), "x")}, "must be numbers, got <U1"),
        ({"images": np.full((30, 2, 2), None, dtype=object)}, "has no arrays images and labels that can be read"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ImageCells(npz(tmp_path, **arrays))


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 2, 2)))
    with pytest.raises(DataError, match="has no arrays images and labels that can be read"):
        ImageCells(str(tmp_path / "a.npz"))


def test_patches_must_fill_the_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"patch must divide the height and width of the images \(4 x 6\), got 3"):
        ImageCells(npz(tmp_path), 3)
    with pytest.raises(ValueError, match="patch must be at least 1, got 0"):
        ImageCells(npz(tmp_path), 0)
