"""Projection files of Sparsefinder's own programs, read and written without running code of a file.

Projections are a list over layers of ``{"q": state, "k": state}``, centroids a list over layers of tensors
``(heads, runs, clusters, width)``, or a pickle of k-means for each layer.
"""

import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tabattn.contract.errors import DataError
from tabattn.storage import checkpoint_files
from tabattn.storage.files import write_checkpoint
from tabattn.storage.projection_files import LayerProjection, checked, unprojected


def read_original(
    path: str | Path, centroids: Sequence[str | Path] = (), *, concat: bool = False, skip: bool = False
) -> dict[str, LayerProjection]:
    """Read the original's projections, and its centroids: one file of all layers, or a file of k-means for each.

    Layers have the names ``layers.0``, ``layers.1`` and so on. No code of a file is run.

    Args:
        path: The projections.
        centroids: The centroids.
        concat: Whether the maps are of queries and keys together (``--concat-q-and-k``), which the file does not say.
        skip: Whether nothing was projected (``--skip-proj``): the file then holds numbers that were never used.

    Raises:
        ValueError: There is no such file, or there are no centroids where nothing was projected.
        DataError: It is damaged, or holds something else.
    """
    found = checkpoint_files.load(path)
    if (
        not isinstance(found, list)
        or not found
        or not all(isinstance(each, dict) and set(each) == {"q", "k"} for each in found)
    ):
        raise DataError(f"{path} holds no projections: it must be a list of q and k for each layer")
    groups = _centroids(centroids, len(found))
    layers = {}
    for number, (layer, group) in enumerate(zip(found, groups, strict=True)):
        q, k, where = layer["q"], layer["k"], f"{path}: layer {number}"
        whole = checked(where, q, k, "concat" if concat else False, None if skip else group)
        same = all(torch.equal(q[name], k[name]) for name in q)
        if skip:
            whole = unprojected(where, whole.shared, group)
        elif not concat:
            whole = whole._replace(shared=same)
        elif not same:
            raise DataError(f"{where}: the maps of queries and keys are two, not one of both together")
        layers[f"layers.{number}"] = whole
    return layers


def _centroids(paths: Sequence[str | Path], layers: int) -> list[Tensor | None]:
    """Centroids of each layer."""
    if not paths:
        return [None] * layers
    if len(paths) == 1 and _is_archive(paths[0]):
        found = checkpoint_files.load(paths[0])
        if not isinstance(found, list) or not all(isinstance(each, Tensor) for each in found):
            raise DataError(f"{paths[0]} holds no centroids: it must be a list of one tensor for each layer")
    else:
        found = [read_clusters(path) for path in paths]
    if len(found) != layers:
        raise DataError(f"there are centroids of {len(found)} layers, and projections of {layers}")
    return [each.float() for each in found]


def _is_archive(path: str | Path) -> bool:
    with checkpoint_files.find(path).open("rb") as file:
        return file.read(2) == b"PK"


def write_original(path: Path, layers: Mapping[str, LayerProjection], centroids: Path | None = None) -> None:
    """Write projections, and centroids, as the original's programs read them, in the order of the layers.

    Raises:
        ValueError: Centroids are asked for, and a layer has none.
        OSError: A file cannot be written.
    """
    states = [
        {"q": dict(layer.q or _identity(layer)), "k": dict(layer.k or _identity(layer))} for layer in layers.values()
    ]
    if centroids is not None:
        groups = [layer.centroids for layer in layers.values()]
        if any(each is None for each in groups):
            raise ValueError(f"there are no centroids to write to {centroids}")
        write_checkpoint(centroids, groups)  # type: ignore[arg-type]
    write_checkpoint(path, states)  # type: ignore[arg-type]


def _identity(layer: LayerProjection) -> dict[str, Tensor]:
    """Linear maps that leave tokens as they are, by which the original's programs need not be told to skip them."""
    assert layer.centroids is not None
    heads, width = len(layer.centroids), layer.centroids.shape[3]
    return {"w": torch.eye(width).repeat(heads, 1, 1), "b": torch.zeros(heads, 1, width)}


class _Stub:
    """Stands for an object of k-means in a pickle: keeps its attributes, and has no behaviour."""


class _ArraysOnly(pickle.Unpickler):
    """Unpickler of k-means that makes arrays and stubs, and no other object; anything else is refused by its name."""

    STUBS = frozenset({("multi_kmeans", "MultiKmeans"), ("sklearn.cluster._kmeans", "KMeans")})
    ARRAYS = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.STUBS:
            return _Stub
        if (
            module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy._core.numeric")
            and name in self.ARRAYS
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_clusters(path: str | Path) -> Tensor:
    """Read the original's k-means of a layer, a pickle of scikit-learn's objects, without making such objects.

    Returns:
        Centroids, ``(heads, runs, clusters, width)``.

    Raises:
        ValueError: There is no such file.
        DataError: It holds something else, which is not loaded.
    """
    path = checkpoint_files.find(path)
    try:
        heads = _ArraysOnly(io.BytesIO(path.read_bytes())).load()
        runs = [[np.asarray(run.cluster_centers_, np.float32) for run in head.kmeans] for head in heads]
        found = torch.from_numpy(np.stack([np.stack(head) for head in runs]))
    except pickle.UnpicklingError as ex:
        raise DataError(
            f"{path} holds more than arrays of k-means, which is not loaded: it could run code ({ex})"
        ) from ex
    except Exception as ex:
        # A damaged file may raise almost any exception.
        raise DataError(f"{path} holds no k-means of each head: {type(ex).__name__}") from ex
    if found.dim() != 4:
        raise DataError(f"{path} holds no k-means of each head: centroids have {found.dim()} dimensions, not 4")
    return found
