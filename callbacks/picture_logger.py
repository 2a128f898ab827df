"""Logger that keeps the pictures and scalars of a run as plain files, in place of TensorBoard's events."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger

from tabattn.storage.files import write_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INDEX = "look.json"


class PictureLogger(TensorBoardLogger):
    """Writes what callbacks draw as PNG files, and a list of these with the scalars and texts: ``look.json``.

    Args:
        save_dir: Folder of the files.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="", default_hp_metric=False)
        self.writer = PictureWriter(Path(save_dir))

    @property
    def experiment(self) -> Any:
        """Writer of the pictures."""
        return self.writer

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep the latest value of each scalar."""
        self.writer.scalars |= {_shown(name): float(value) for name, value in metrics.items()}

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Keep none: the configuration is a file of its own."""

    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        """Keep none."""

    def save(self) -> None:
        """Write the list of pictures, scalars and texts."""
        self.writer.write_index()

    def finalize(self, status: str) -> None:
        self.save()


class PictureWriter:
    """The part of TensorBoard's writer that callbacks use, with pictures as PNG files.

    Args:
        folder: Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_dir = str(folder)
        self.pictures: dict[str, str] = {}
        self.scalars: dict[str, float] = {}
        self.texts: dict[str, str] = {}

    def add_image(self, tag: str, image: "NDArray[np.uint8]", *args: Any, **kwargs: Any) -> None:
        """Write a picture, ``(height, width, 3)``."""
        from callbacks.pictures import write_image

        parts = _shown(tag).split("/")
        path = Path(*(re.sub(r"[^\w.-]+", "_", part)[:100].strip(".") or "_" for part in parts))
        path = path.with_name(f"{path.name}.png")
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_image(self.folder / path, image)
        self.pictures[_shown(tag)] = path.as_posix()

    def add_text(self, tag: str, text: str, *args: Any, **kwargs: Any) -> None:
        """Keep a text."""
        self.texts[tag] = text

    def add_scalar(self, tag: str, value: float, *args: Any, **kwargs: Any) -> None:
        """Keep the latest value of a scalar."""
        self.scalars[_shown(tag)] = float(value)

    def leave(self, *args: Any, **kwargs: Any) -> None:
        """Keep nothing of what is no picture, scalar or text."""

    add_histogram = add_pr_curve = add_custom_scalars = flush = close = leave

    def write_index(self) -> None:
        """Write the list of what is kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {"pictures": self.pictures, "scalars": self.scalars, "texts": self.texts}
        write_file(self.folder / INDEX, json.dumps(found, indent=1).encode())


def _shown(tag: str) -> str:
    """Tag without the name of the split: a folder of pictures is of one."""
    return tag.removeprefix("test/")
