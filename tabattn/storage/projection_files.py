"""Projection files: what Sparsefinder has learned of a model, by module path, as safetensors with a JSON beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from tabattn.contract.errors import DataError
from tabattn.storage import checkpoint_files, weight_files
from tabattn.storage.files import write_file

KIND = "tabattn.projections"
LINEAR, PERCEPTRON = ("w", "b"), ("w1", "b1", "w2", "b2")
"""Names of the tensors of a map: a matrix ``(heads, head_dim, width)`` and a bias ``(heads, 1, width)`` each."""


class LayerProjection(NamedTuple):
    """What was learned of a layer.

    Attributes:
        q: Map of queries, tensors by the names of ``LINEAR`` or ``PERCEPTRON``; empty = nothing is projected.
        k: Map of keys.
        shared: Whether both are one map; ``concat`` = one of the query and the key of a token, one after the other.
        centroids: Centroids in the projected space, ``(heads, runs, clusters, width)``, of blocks of tokens a multiple
            of the width; None = there are none.
    """

    q: dict[str, Tensor]
    k: dict[str, Tensor]
    shared: bool | Literal["concat"] = False
    centroids: Tensor | None = None

    @property
    def sizes(self) -> dict[str, Any]:
        """Heads, head_dim, width, hidden, shared and clusters, in plain values; width None = nothing is projected."""
        parts = 2 if self.shared == "concat" else 1
        clusters = None if self.centroids is None else self.centroids.shape[2]
        if not self.q:
            assert self.centroids is not None
            heads, inputs, width, hidden = len(self.centroids), self.centroids.shape[3], None, None
        else:
            names = LINEAR if set(self.q) == set(LINEAR) else PERCEPTRON
            heads, inputs = self.q[names[0]].shape[:2]
            hidden = None if names == LINEAR else self.q["w1"].shape[2]
            width = self.q[names[-1]].shape[-1]
        sizes = {"heads": heads, "head_dim": inputs // parts, "width": width, "hidden": hidden}
        return {**sizes, "shared": self.shared, "clusters": clusters}

    @property
    def block(self) -> int:
        """Tokens of a block whose centroids they are; where nothing is projected, 1."""
        if self.centroids is None or not self.q:
            return 1
        return int(self.centroids.shape[3] // self.sizes["width"])


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
        sizes = sizes if isinstance(sizes, dict) else {}
        shared = sizes["shared"] if sizes.get("shared") in (True, "concat") else False
        q, k = (_under(tensors, f"{name}/{'q' if shared else side}/") for side in "qk")
        where, centroids = f"{path}: {name}", tensors.get(f"{name}/centroids")
        if not q and not k and sizes.get("width", 0) is None:
            layers[name] = unprojected(where, shared, centroids)
        else:
            layers[name] = checked(where, q, k, shared, centroids)
    if not layers:
        raise DataError(f"{path} holds no projections")
    return layers


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def unprojected(where: str, shared: bool | Literal["concat"], centroids: Tensor | None) -> LayerProjection:
    """Return what was learned of a layer whose queries and keys are not projected: centroids.

    Raises:
        DataError: There are none, or of a shape that they cannot have.
    """
    if centroids is None:
        raise DataError(f"{where}: nothing is projected, and there are no centroids, so nothing was learned")
    if centroids.dim() != 4 or (shared == "concat" and centroids.shape[3] % 2):
        raise DataError(f"{where}: centroids must be (heads, runs, clusters, width), got {tuple(centroids.shape)}")
    return LayerProjection({}, {}, shared, centroids.float())


def checked(where: str, q: Any, k: Any, shared: bool | Literal["concat"], centroids: Tensor | None) -> LayerProjection:
    """Return what was learned of a layer, once its names and shapes are those of a projection.

    Args:
        where: File and layer, for messages.
        q: Map of queries.
        k: Map of keys.
        shared: Whether both are one map; ``concat`` = of both together.
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
        inputs = side["w" if "w" in side else "w1"].shape[1]
        if shared == "concat" and inputs % 2:
            raise DataError(
                f"{where}: a map of queries and keys together must have an even number of inputs, got {inputs}"
            )
        shapes = {name: tuple(each.shape) for name, each in side.items()}
        if any(shape[0] != heads for shape in shapes.values()) or shapes["b" if "b" in side else "b2"][1:] != (
            1,
            width,
        ):
            raise DataError(f"{where}: the shapes of a map do not fit, got {shapes}")
    if {name: each.shape for name, each in q.items()} != {name: each.shape for name, each in k.items()}:
        raise DataError(f"{where}: the maps of queries and keys have other shapes")
    fits = centroids is None or (centroids.dim() == 4 and len(centroids) == heads)
    fits = fits and (centroids is None or (0 < width <= centroids.shape[3] and centroids.shape[3] % width == 0))
    if centroids is not None and not fits:
        raise DataError(
            f"{where}: centroids must be (heads, runs, clusters, width) with {heads} heads and width {width} "
            f"or, of blocks, a multiple, got "
            f"{tuple(centroids.shape)}"
        )
    return LayerProjection(q, k, shared, None if centroids is None else centroids.float())
