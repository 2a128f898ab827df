"""Pictures of a run: on TensorBoard, and as PNG files in the run folder."""

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer

from callbacks.board import writers
from callbacks.picture_logger import PictureLogger
from tabattn.storage.files import write_file

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

FOLDER = "figures"


def folder_of(trainer: Trainer) -> Path:
    """Folder of a run's pictures; a collective call."""
    return Path(trainer.log_dir or trainer.default_root_dir, FOLDER)


def show(trainer: Trainer, folder: Path, split: str, group: str, name: str, figure: "Figure") -> None:
    """Write a picture to every TensorBoard logger and, but for a ``fast_dev_run``, as a PNG file.

    Args:
        trainer: Trainer of the run.
        folder: Folder of its pictures.
        split: ``validation``, ``test``, ``predict`` or ``fit``.
        group: Group of the picture on TensorBoard.
        name: Name of the picture.
        figure: The picture.
    """
    from callbacks.heatmaps import render

    image = render(figure)
    for writer in writers(trainer):
        tag = f"test/{group}/{name}" if split == "test" else f"{group}/{name}"
        writer.add_image(tag, image, trainer.global_step, dataformats="HWC")
    # A logger of pictures has written the file already.
    if getattr(trainer, "fast_dev_run", False) or any(isinstance(each, PictureLogger) for each in trainer.loggers):
        return
    home = folder / f"{split}_{trainer.global_step:06d}"
    home.mkdir(parents=True, exist_ok=True)
    write_image(home / f"{_file_name(name)}.png", image)


def write_png(path: Path, figure: "Figure") -> None:
    """Write a picture as a PNG file, atomically.

    Raises:
        OSError: It cannot be written.
    """
    from callbacks.heatmaps import render

    write_image(path, render(figure))


def write_image(path: Path, image: "NDArray[np.uint8]") -> None:
    """Write pixels, ``(height, width, 3)``, as a PNG file, atomically."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, image, format="png")
    write_file(path, buffer.getbuffer())


def _file_name(name: str) -> str:
    """Name without characters that a file system may refuse."""
    return re.sub(r"[^\w.-]+", "_", name)[:80].strip(".") or "picture"
