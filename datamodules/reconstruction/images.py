"""Reading of images as rows of a table: pixels in patches, and a class."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from datamodules.reconstruction.batches import Cells
from datamodules.reconstruction.options import ContextOptions, MaskOptions, SplitOptions
from datamodules.reconstruction.splits import TRAIN, roles_of
from tabattn.contract.cells import Column
from tabattn.contract.errors import DataError

TORCHVISION = {"mnist": "MNIST", "cifar10": "CIFAR10"}
"""Classes of torchvision by the name of the source; both sets end in their 10,000 official test images."""


class Images(NamedTuple):
    """Images with their classes.

    Attributes:
        name: Short name.
        pixels: ``(images, height, width, channels)``.
        labels: Indices of classes, ``(images,)``.
        classes: Names of the classes.
    """

    name: str
    pixels: NDArray[Any]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def read_images(source: str, root: str | Path) -> Images:
    """Read images by their source.

    Args:
        source: ``digits``, ``mnist``, ``cifar10``, or an .npz file with the arrays ``images``, ``(images, height,
            width)`` with or without channels behind, and ``labels``.
        root: Folder into which torchvision downloads.

    Raises:
        ValueError: No such source.
        DataError: The file cannot be read, or holds something else.
        ImportError: torchvision is not installed.
    """
    if source == "digits":
        bunch = load_digits()
        return _checked("digits", bunch.images, bunch.target, source)
    if source in TORCHVISION:
        datasets = importlib.import_module("torchvision.datasets")
        parts = [getattr(datasets, TORCHVISION[source])(root, train=train, download=True) for train in (True, False)]
        pixels = np.concatenate([np.asarray(part.data) for part in parts])
        return _checked(source, pixels, np.concatenate([np.asarray(part.targets) for part in parts]), source)
    path = Path(source)
    if path.suffix != ".npz":
        raise ValueError(f"images must be digits, {', '.join(TORCHVISION)} or an .npz file, got {source!r}")
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _checked(path.stem, arrays["images"], arrays["labels"], source)
    except (KeyError, OSError, ValueError) as ex:
        raise DataError(f"{path} has no arrays images and labels that can be read: {ex}") from ex


def _checked(name: str, pixels: NDArray[Any], labels: NDArray[Any], source: str) -> Images:
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or labels.shape != pixels.shape[:1] or not len(labels):
        raise DataError(
            f"images of {source} must be (images, height, width) or (images, height, width, channels) with a label "
            f"each, got {pixels.shape} and {labels.shape}"
        )
    if pixels.dtype.kind not in "uif":
        raise DataError(f"images of {source} must be numbers, got {pixels.dtype}")
    classes, codes = np.unique(labels, return_inverse=True)
    return Images(name, pixels, codes.astype(np.int64), tuple(map(str, classes)))


def patches(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """Cut images into square patches over all channels.

    Args:
        pixels: ``(images, height, width, channels)``.
        side: Height and width of a patch.

    Returns:
        ``(images, patches, side * side * channels)``, patches from left to right and from top to bottom.

    Raises:
        ValueError: The images have no whole number of patches.
    """
    count, height, width, channels = pixels.shape
    if height % side or width % side:
        raise ValueError(f"patch must divide the height and width of the images ({height} x {width}), got {side}")
    cut = pixels.reshape(count, height // side, side, width // side, side, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, side * side * channels)


def image_cells(
    images: Images, side: int, split: SplitOptions, masks: MaskOptions, context: ContextOptions, seed: int
) -> Cells:
    """Make a table of images: a column for each pixel and channel, in groups of patches, and the class.

    Pixels are standardised by the mean and standard deviation of their channel in the training images.
    """
    roles = roles_of(len(images.labels), images.labels, split, seed)
    channels = images.pixels.shape[-1]
    known = images.pixels if context.transductive else images.pixels[roles == TRAIN]
    mean, std = (size(axis=(0, 1, 2), dtype=np.float64) for size in (known.mean, known.std))
    std = np.where(std > 0, std, 1.0)
    cut = patches(images.pixels, side)
    columns = [
        Column(
            f"patch {patch} pixel {pixel}", (), float(mean[pixel % channels]), float(std[pixel % channels])
        )._replace(group=f"patch {patch}")
        for patch in range(cut.shape[1])
        for pixel in range(cut.shape[2])
    ]
    truth = np.empty((len(images.labels), len(columns) + 1), dtype=np.float32)
    shape = (-1, channels)
    truth[:, :-1] = ((cut.reshape(shape) - mean) / std).reshape(len(truth), -1)
    truth[:, -1] = images.labels
    columns.append(Column("class", images.classes, target=True))
    return Cells(torch.from_numpy(truth), torch.from_numpy(roles), tuple(columns), images.labels, masks, context, seed)
