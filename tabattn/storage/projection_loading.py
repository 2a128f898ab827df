"""Learned projections and centroids of a file, put into the Sparsefinder mechanisms of a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tabattn.attention import Sparsefinder
from tabattn.contract.errors import DataError
from tabattn.storage import checkpoint_files
from tabattn.storage.projection_files import LayerProjection, checked, read_projections

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
    named = checkpoint.get("hyper_parameters", {}).get("layers")
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
        found[layer["path"]] = checked(f"{path}: {layer['path']}", q, k or q, not k, centroids)
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
    for name, mechanism in wanted.items():
        _fill(mechanism, learned[name], f"{path}: {name}")
    return list(wanted)


def _fill(mechanism: Sparsefinder, layer: LayerProjection, where: str) -> None:
    """Fill a mechanism with what was learned of its layer."""
    own: dict[str, Any] = {"heads": mechanism.heads, "head_dim": mechanism.head_dim}
    own |= {"width": mechanism.width, "hidden": mechanism.hidden}
    for name, size in own.items():
        if layer.sizes[name] != size:
            raise ValueError(f"{where} has {name} {layer.sizes[name]}, the mechanism {size}")
    if mechanism.shared and not layer.shared:
        raise ValueError(f"{where} has maps of queries and keys, the mechanism one for both: set shared to false")
    maps = {"q": layer.q} if mechanism.shared else {"q": layer.q, "k": layer.k}
    assert mechanism.projection is not None
    mechanism.projection.load_state_dict(
        {f"{side}.{name}": each for side, state in maps.items() for name, each in state.items()}
    )
    _fill_centroids(mechanism, layer, where)


def _fill_centroids(mechanism: Sparsefinder, layer: LayerProjection, where: str) -> None:
    """Give a pattern of clusters its centroids."""
    if mechanism.grouping != "kmeans":
        return
    if layer.centroids is None:
        raise ValueError(f"{where} has no centroids for kmeans")
    clusters = layer.centroids.shape[2]
    if mechanism.knob not in (None, clusters):
        raise ValueError(f"{where} has {clusters} clusters, the mechanism's knob is {mechanism.knob:g}")
    assert mechanism.pattern is not None
    mechanism.pattern.centroids = layer.centroids.to(next(mechanism.parameters()).device)
