"""Files of TensorBoard's projector: bounded in number, with a consistent index."""

import shutil
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from unicodedata import category

import torch.nn.functional as F
from google.protobuf import text_format  # type: ignore[import-untyped]
from lightning.pytorch.utilities import rank_zero_warn
from tensorboard.plugins.projector import ProjectorConfig
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from tabattn.storage.files import write_file

INDEX = "projector_config.pbtxt"
THUMBNAIL = 16


def write_points(
    writer: SummaryWriter,
    tag: str,
    step: int,
    points: Tensor,
    columns: Mapping[str, Sequence[object]],
    *,
    sprites: bool,
    keep: int,
) -> None:
    """Write points of a step and delete all but the latest steps of their tag; non-finite points are dropped.

    Args:
        writer: TensorBoard writer with a local log directory.
        tag: Name of the points in the projector.
        step: Step they belong to; points of the same tag and step are replaced.
        points: One vector a point, ``(points, dim)``.
        columns: Metadata by column name, one value a point.
        sprites: Whether each point is shown as a thumbnail of its vector.
        keep: Number of latest steps of this tag kept on disk.
    """
    finite = points.isfinite().all(dim=1)
    if not finite.all():
        rank_zero_warn(f"{tag}: {int((~finite).sum())} of {len(points)} points are not finite and are left out")
        if not finite.any():
            return
        points, kept = points[finite], finite.tolist()
        columns = {name: list(compress(column, kept)) for name, column in columns.items()}
    folder = Path(writer.log_dir)
    index = _read(folder)
    for entry in index.embeddings:
        if entry.tensor_name == f"{tag}:{step:05d}":
            _remove(folder, entry.tensor_path)
    rows = list(zip(*([_cell(value) for value in column] for column in columns.values()), strict=True))
    several = len(columns) > 1
    writer.add_embedding(
        points.float().numpy(),
        # With one column only, the projector would take a header for the label of a point.
        metadata=[list(row) for row in rows] if several else [value for (value,) in rows],
        metadata_header=[_cell(name) for name in columns] if several else None,
        label_img=thumbnails(points) if sprites else None,
        global_step=step,
        tag=tag,
    )
    written = {entry.tensor_path: entry for entry in (*index.embeddings, *_read(folder).embeddings)}
    own = [path for path, entry in written.items() if entry.tensor_name.rpartition(":")[0] == tag]
    for path in sorted(own, key=lambda path: int(written[path].tensor_name.rpartition(":")[2]))[:-keep]:
        _remove(folder, path)
    stay = [entry for path, entry in written.items() if (folder / path).exists()]
    _write(folder, ProjectorConfig(embeddings=stay))


def thumbnails(points: Tensor) -> Tensor:
    """Draw each vector as a small grey image on a common scale: ``(points, 3, 16, 16)`` in [0, 1]."""
    pixels = F.interpolate(points.float()[:, None], THUMBNAIL**2, mode="area")
    low, high = pixels.min(), pixels.max()
    shades = (pixels - low) / (high - low).clamp_min(1e-12)
    return shades.view(-1, 1, THUMBNAIL, THUMBNAIL).expand(-1, 3, -1, -1)


def _cell(value: object) -> str:
    """Format a value as one cell of a tab-separated file."""
    text = str(value).encode(errors="replace").decode()
    return " ".join("".join(" " if category(letter) == "Cc" else letter for letter in text).split()) or "-"


def _read(folder: Path) -> ProjectorConfig:
    index = ProjectorConfig()
    if (folder / INDEX).exists():
        text_format.Parse((folder / INDEX).read_text(), index)
    return index


def _write(folder: Path, index: ProjectorConfig) -> None:
    """Write the index atomically, so that no reader sees half of it."""
    write_file(folder / INDEX, text_format.MessageToString(index).encode())


def _remove(folder: Path, tensor_path: str) -> None:
    """Remove the folder of one embedding, and the folder of its step once that is empty."""
    home = (folder / tensor_path).parent
    if home.exists():
        shutil.rmtree(home)
        if not any(home.parent.iterdir()):
            home.parent.rmdir()
