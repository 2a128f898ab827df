"""Projection files: what Sparsefinder has learned of a model, by module path, as safetensors with a JSON beside it.

The original's files are read and written too: projections are a list over layers of ``{"q": state, "k": state}``,
centroids a list over layers of tensors ``(heads, runs, clusters, width)``.
"""

import io
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tabattn.contract.errors import DataError
from tabattn.storage import checkpoint_files, weight_files
from tabattn.storage.files import write_checkpoint, write_file

KIND = "tabattn.projections"
LINEAR, PERCEPTRON = ("w", "b"), ("w1", "b1", "w2", "b2")
"""Names of the tensors of a map: a matrix ``(heads, head_dim, width)`` and a bias ``(heads, 1, width)`` each."""


class LayerProjection(NamedTuple):
    """What was learned of a layer.

    Attributes:
        q: Map of queries, tensors by the names of ``LINEAR`` or ``PERCEPTRON``.
        k: Map of keys.
        shared: Whether both are one map.
        centroids: Centroids in the projected space, ``(heads, runs, clusters, width)``; None = there are none.
    """

    q: dict[str, Tensor]
    k: dict[str, Tensor]
    shared: bool = False
    centroids: Tensor | None = None

    @property
    def sizes(self) -> dict[str, Any]:
        """Heads, head_dim, width, hidden, shared and clusters, in plain values."""
        names = LINEAR if set(self.q) == set(LINEAR) else PERCEPTRON
        heads, head_dim = self.q[names[0]].shape[:2]
        clusters = None if self.centroids is None else self.centroids.shape[2]
        hidden = None if names == LINEAR else self.q["w1"].shape[2]
        width = self.q[names[-1]].shape[-1]
        sizes = {"heads": heads, "head_dim": head_dim, "width": width, "hidden": hidden}
        return {**sizes, "shared": self.shared, "clusters": clusters}


def write_projections(
    path: str | Path, layers: Mapping[str, LayerProjection], facts: Mapping[str, Any] | None = None
) -> Path:
    """Write projections and centroids, and beside them a JSON file that describes them; each atomically.

    Args:
        path: The file, ``.safetensors``.
        layers: What was learned, by module path of the mechanism.
        facts: How it was learned, in plain values.

    Returns:
        The JSON file.

    Raises:
        ValueError: The file has another ending.
        OSError: It cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"projections are kept in a file .safetensors, got {path}")
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        maps = {"q": layer.q} if layer.shared else {"q": layer.q, "k": layer.k}
        tensors |= {f"{name}/{side}/{part}": value for side, state in maps.items() for part, value in state.items()}
        if layer.centroids is not None:
            tensors[f"{name}/centroids"] = layer.centroids
    header = {"layers": {name: layer.sizes for name, layer in layers.items()}, "facts": dict(facts or {})}
    weight_files.write(path, tensors, header, KIND)
    beside = path.with_suffix(".json")
    write_file(beside, f"{json.dumps(header, indent=1)}\n".encode())
    return beside


def read_projections(path: str | Path) -> dict[str, LayerProjection]:
    """Read projections and centroids by module path; the JSON file beside them is not needed.

    Raises:
        ValueError: There is no such file.
        DataError: It is damaged, or holds something else.
    """
    path = checkpoint_files.find(path)
    try:
        tensors, header = weight_files.read(path, KIND)
    except ValueError as ex:
        raise DataError(str(ex)) from ex
    layers = {}
    named = header.get("layers")
    for name, sizes in named.items() if isinstance(named, dict) else ():
        shared = isinstance(sizes, dict) and sizes.get("shared") is True
        q, k = (_under(tensors, f"{name}/{'q' if shared else side}/") for side in "qk")
        layers[name] = checked(f"{path}: {name}", q, k, shared, tensors.get(f"{name}/centroids"))
    if not layers:
        raise DataError(f"{path} holds no projections")
    return layers


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def checked(where: str, q: Any, k: Any, shared: bool, centroids: Tensor | None) -> LayerProjection:
    """Return what was learned of a layer, once its names and shapes are those of a projection.

    Args:
        where: File and layer, for messages.
        q: Map of queries.
        k: Map of keys.
        shared: Whether both are one map.
        centroids: Centroids; None = there are none.

    Raises:
        DataError: A name, a shape or a number is none that a projection can have.
    """
    for side in (q, k):
        names = set(side) if isinstance(side, dict) else set()
        if names not in (set(LINEAR), set(PERCEPTRON)) or not all(isinstance(each, Tensor) for each in side.values()):
            raise DataError(f"{where}: a map must have the tensors {LINEAR} or {PERCEPTRON}, got {sorted(names)}")
        if not all(each.dim() == 3 and bool(each.isfinite().all()) for each in side.values()):
            raise DataError(f"{where}: the tensors of a map must have 3 dimensions and be finite")
        heads, _, width = side["w" if "w" in side else "w2"].shape
        shapes = {name: tuple(each.shape) for name, each in side.items()}
        if any(shape[0] != heads for shape in shapes.values()) or shapes["b" if "b" in side else "b2"][1:] != (
            1,
            width,
        ):
            raise DataError(f"{where}: the shapes of a map do not fit, got {shapes}")
    if {name: each.shape for name, each in q.items()} != {name: each.shape for name, each in k.items()}:
        raise DataError(f"{where}: the maps of queries and keys have other shapes")
    if centroids is not None and (centroids.dim() != 4 or (len(centroids), centroids.shape[3]) != (heads, width)):
        raise DataError(
            f"{where}: centroids must be (heads, runs, clusters, width) with {heads} heads and width {width}, got "
            f"{tuple(centroids.shape)}"
        )
    return LayerProjection(q, k, shared, None if centroids is None else centroids.float())


def read_original(path: str | Path, centroids: Sequence[str | Path] = ()) -> dict[str, LayerProjection]:
    """Read the original's projections, and its centroids: one file of all layers, or a file of k-means for each.

    Layers have the names ``layers.0``, ``layers.1`` and so on. No code of a file is run.

    Raises:
        ValueError: There is no such file.
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
        q, k = layer["q"], layer["k"]
        whole = checked(f"{path}: layer {number}", q, k, False, group)
        same = all(torch.equal(q[name], k[name]) for name in q)
        layers[f"layers.{number}"] = whole._replace(shared=same)
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
    states = [{"q": dict(layer.q), "k": dict(layer.k)} for layer in layers.values()]
    if centroids is not None:
        groups = [layer.centroids for layer in layers.values()]
        if any(each is None for each in groups):
            raise ValueError(f"there are no centroids to write to {centroids}")
        write_checkpoint(centroids, groups)  # type: ignore[arg-type]
    write_checkpoint(path, states)  # type: ignore[arg-type]


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
