"""Learned projections and centroids of a file, put into the Sparsefinder mechanisms of a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tabattn.attention import Sparsefinder
from tabattn.attention.graphs import innermost
from tabattn.attention.graphs.groups import KMeans
from tabattn.contract.errors import DataError
from tabattn.storage import checkpoint_files
from tabattn.storage.projection_files import LayerProjection, checked, read_projections, unprojected

PREFIX = "network.layers."


def read_learned(path: str | Path) -> dict[str, LayerProjection]:
    """Read projections by module path, from a checkpoint of ``SparsefinderProjections`` or a file of projections.

    Raises:
        ValueError: There is no such file.
        DataError: It is damaged, or holds something else.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_projections(path)
    checkpoint = checkpoint_files.read(path)
    own = checkpoint.get("hyper_parameters", {})
    named, concat = own.get("layers"), own.get("shared") == "concat"
    state = checkpoint["state_dict"]
    if not isinstance(named, list) or not all(
        isinstance(each, dict) and isinstance(each.get("path"), str) for each in named
    ):
        raise DataError(f"{path} holds no projections: it is no checkpoint of SparsefinderProjections")
    found = {}
    for number, layer in enumerate(named):
        q, k = (_under(state, f"{PREFIX}{number}.projection.{side}.") for side in "qk")
        centroids = state.get(f"{PREFIX}{number}.centroids")
        # Before the first training there are no clusters.
        centroids = None if centroids is None or not bool(centroids.any()) else centroids
        where = f"{path}: {layer['path']}"
        if not q and own.get("width", 0) is None:
            found[layer["path"]] = unprojected(where, own.get("shared") or False, centroids)
        else:
            found[layer["path"]] = checked(where, q, k or q, "concat" if concat else not k, centroids)
    if not found:
        raise DataError(f"{path} holds no projections")
    return found


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_projections(model: nn.Module, path: str | Path) -> list[str]:
    """Load learned projections, and centroids where the graph is made of clusters, into every Sparsefinder of a model.

    Args:
        model: Model whose module paths are those of the file, such as a task.
        path: Checkpoint of ``SparsefinderProjections``, or a file of projections (.safetensors).

    Returns:
        Module paths of what was filled.

    Raises:
        ValueError: There is no such file, it lacks a layer, one is of other sizes, or the model has nothing to fill.
        DataError: It is damaged, or holds something else.
    """
    mechanisms = {name: each for name, each in model.named_modules() if isinstance(each, Sparsefinder)}
    wanted = {name: each for name, each in mechanisms.items() if each.projection is not None}
    if not wanted:
        groupings = sorted({str(each.grouping) for each in mechanisms.values()})
        what = f"groupings without projections: {', '.join(groupings)}" if groupings else "no Sparsefinder mechanism"
        raise ValueError(f"{type(model).__name__} has {what}; nothing to load {path} into")
    learned = read_learned(path)
    if missing := [name for name in wanted if name not in learned]:
        raise ValueError(f"{path} has no projections of {', '.join(missing)}; it has those of {', '.join(learned)}")
    device = next((each.device for each in model.parameters()), None)
    for name, mechanism in wanted.items():
        _fill(mechanism, learned[name], f"{path}: {name}", device)
    return list(wanted)


def _fill(mechanism: Sparsefinder, layer: LayerProjection, where: str, device: torch.device | None) -> None:
    """Fill a mechanism with what was learned of its layer."""
    own: dict[str, Any] = {"heads": mechanism.heads, "head_dim": mechanism.head_dim}
    own |= {"width": mechanism.width, "hidden": mechanism.hidden}
    for name, size in own.items():
        if layer.sizes[name] != size:
            raise ValueError(f"{where} has {name} {layer.sizes[name]}, the mechanism {size}")
    if "concat" in (mechanism.shared, layer.shared) and mechanism.shared != layer.shared:
        told = str(layer.shared).lower()
        raise ValueError(f"{where} has shared {told}, the mechanism {str(mechanism.shared).lower()}: set it to {told}")
    if mechanism.shared and not layer.shared and layer.q:
        raise ValueError(f"{where} has maps of queries and keys, the mechanism one for both: set shared to false")
    maps = {"q": layer.q} if mechanism.shared else {"q": layer.q, "k": layer.k}
    assert mechanism.projection is not None
    mechanism.projection.load_state_dict(
        {f"{side}.{name}": each for side, state in maps.items() for name, each in state.items()}
    )
    _fill_centroids(mechanism, layer, where, device)


def _fill_centroids(mechanism: Sparsefinder, layer: LayerProjection, where: str, device: torch.device | None) -> None:
    """Give a pattern of clusters its centroids."""
    assert mechanism.pattern is not None
    pattern = innermost(mechanism.pattern)
    if not isinstance(pattern, KMeans):
        return
    if layer.centroids is None:
        raise ValueError(f"{where} has no centroids for kmeans")
    clusters, block = layer.centroids.shape[2], layer.block
    if block != (own := getattr(mechanism.pattern, "size", 1)):
        raise ValueError(f"{where} has centroids of blocks of {block} tokens, the mechanism's grouping is of {own}")
    if mechanism.knob not in (None, clusters):
        raise ValueError(f"{where} has {clusters} clusters, the mechanism's knob is {mechanism.knob:g}")
    pattern.centroids = layer.centroids.to(device)
