"""What patterns have learned of layers: starting values of projections, centroids and block gates."""

from collections.abc import Callable
from dataclasses import replace

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch import Tensor

from tabattn.attention.graphs import named
from tabattn.contract.queries_keys import LayerBatch, QueryKeyBatch
from tabattn.sparsity.gates import gate_weights
from tabattn.sparsity.options import ClusterOptions, GraphOptions
from tabattn.sparsity.projections import LayerMaps, Projections


def start_from_scores(network: Projections, training: QueryKeyBatch, trainer: Trainer) -> None:
    """Set projections to the best low-rank factors of the scores of training items, on the first rank, for all.

    Raises:
        MisconfigurationException: A layer has too few items.
    """
    for maps, batch in zip(network.maps(), training.layers, strict=True):
        if not maps.projection.approximates:
            continue
        if trainer.is_global_zero:
            try:
                maps.approximate(trainer.strategy.batch_to_device(batch, trainer.strategy.root_device))
            except ValueError as ex:
                raise MisconfigurationException(f"{maps.layer.path}: {ex}; give start=random") from ex
        maps.projection.load_state_dict(trainer.strategy.broadcast(maps.projection.state_dict()))


def centroids_of(maps: LayerMaps, batch: LayerBatch, options: ClusterOptions) -> Tensor:
    """Centroids of a layer by k-means.

    Raises:
        MisconfigurationException: There are fewer points than clusters.
    """
    try:
        return maps.clusters(batch, options)
    except ValueError as ex:
        raise MisconfigurationException(str(ex)) from ex


class Learned:
    """Buffers of patterns beside those that a checkpoint holds: learned where they are asked for, once.

    Args:
        clusters: Options of k-means; those centroids are the checkpoint's.
    """

    def __init__(self, clusters: ClusterOptions) -> None:
        self.clusters = clusters
        self.kept: dict[tuple[int, str, int, int], dict[str, Tensor]] = {}

    def forget(self) -> None:
        """Forget the centroids, as projections have changed; gates do not depend on them."""
        self.kept = {key: value for key, value in self.kept.items() if key[1] != "kmeans"}

    def of(
        self, layer: int, maps: LayerMaps, options: GraphOptions, training: Callable[[], LayerBatch | None]
    ) -> dict[str, Tensor]:
        """Buffers of a graph's pattern, for a layer; each rank learns the same.

        Args:
            layer: Number of the layer.
            maps: What was learned of it.
            options: The graph.
            training: Returns training items of the layer, None where the data does not tell them.

        Raises:
            MisconfigurationException: The data does not tell its training items, or these are too few.
        """
        pattern = named(options.grouping)
        if not pattern.kind.learned:
            return {}
        kmeans = pattern.name == "kmeans"
        clusters = int(options.knob or self.clusters.clusters) if kmeans else 0
        if kmeans and (clusters, pattern.tokens) == (self.clusters.clusters, self.clusters.block):
            return {"centroids": maps.centroids}
        key = (layer, pattern.name, clusters, pattern.block or 0)
        if key not in self.kept:
            batch = training()
            if batch is None:
                known = f" of other than {self.clusters.clusters} clusters" if kmeans else ""
                raise MisconfigurationException(
                    f"{options.name}{known} is learned of training items, which the data does not tell"
                )
            if kmeans:
                own = replace(self.clusters, clusters=clusters, block=pattern.tokens)
                self.kept[key] = {"centroids": centroids_of(maps, batch, own)}
            else:
                self.kept[key] = gate_weights(maps, batch, *([pattern.block] if pattern.block else []))
        return self.kept[key]
