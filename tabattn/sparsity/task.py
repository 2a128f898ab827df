"""Task of sparse attention graphs: projections that bring near what attends, and clusters of them."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.optim import Adam
from torchmetrics import MeanMetric

from tabattn.attention.graphs.projection import Shared
from tabattn.contract.facts import Fact
from tabattn.contract.queries_keys import Layer, LayerBatch, QueryKeyBatch
from tabattn.sparsity.learned import Learned, centroids_of, start_from_scores
from tabattn.sparsity.loss import graph_loss
from tabattn.sparsity.options import (
    DEFAULT_CLUSTERS,
    DEFAULT_GRAPH,
    DEFAULT_LOSS,
    ClusterOptions,
    GraphOptions,
    LossOptions,
    SweepOptions,
)
from tabattn.sparsity.projections import Projections
from tabattn.sparsity.scored import Progress, ScoredGraphs, Step, figures, progress_of
from tabattn.task import Task

Start = Literal["scores", "random"]


class SparsefinderProjections(Task):
    """Trains projections of queries and keys by which Sparsefinder predicts where entmax attention is not zero.

    Each head of each layer of a trained model gets a map of queries and one of keys into a few dimensions, where keys
    with a weight are to be nearer than others (a hinge loss). All layers are trained at once and apart, as if each were
    alone. Centroids of k-means are learned before each validation, so that a checkpoint holds those of its projections.
    Validation and test compare a predicted graph with that of the attention, by means over items, heads and layers:
    sparsity, recall, precision, F1, the share of queries whose keys are all found (``exact``), the mass that is
    dropped, and the error of the output. Treviso et al. 2022 (arXiv 2109.12188).

    Args:
        width: Dimensions of the projections; none = queries and keys are grouped as they are, and a training learns
            their clusters alone.
        hidden: Width of their hidden layer; none = linear.
        shared: Whether queries and keys have one map; ``concat`` = one of the query and the key of a token together,
            which are then one point, so that the reverse of a pair with a weight is to be near too.
        loss: Options of the loss.
        clusters: Options of k-means.
        graph: Graph that validation and test score. A checkpoint leaves it to the command line.
        sweep: Graphs that test scores instead; none = the one of ``graph``. A checkpoint leaves it to the command line.
        start: Projections that training starts from: the best low-rank factors of the scores of training items
            (``scores``), which are good as they are, or drawn ones (``random``). Those with a hidden layer, of more
            dimensions than a head, or of both of a token together are drawn.
        layers: Layers of the model; none = those of the datamodule. Checkpoints hold them.
        init_from: Checkpoint to initialise the projections from, by matching name and shape.
    """

    task_name = "sparsity"
    batch = QueryKeyBatch
    optimizer = partial(Adam, lr=1e-3)
    facts: ClassVar[Mapping[str, Fact]] = {
        "layers": Fact(tuple, "the layers whose queries and keys were recorded, for which projections are built"),
        "clustered": Fact(QueryKeyBatch, "training items by which clusters are learned", None),
    }
    network: Projections

    def __init__(
        self,
        width: int | None = 4,
        hidden: int | None = None,
        shared: Shared = True,
        loss: LossOptions = DEFAULT_LOSS,
        clusters: ClusterOptions = DEFAULT_CLUSTERS,
        graph: GraphOptions = DEFAULT_GRAPH,
        sweep: SweepOptions | None = None,
        start: Start = "scores",
        layers: list[dict[str, Any]] | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(init_from)
        self.save_hyperparameters(ignore=["init_from", "graph", "sweep"])
        self.width, self.hidden, self.shared = width, hidden, shared
        if start not in get_args(Start):
            raise ValueError(f"start must be scores or random, got {start!r}")
        self.loss, self.clusters, self.start = loss, clusters, start
        self.graph, self.variants = graph, None if sweep is None else sweep.variants()
        self.rows: list[dict[str, Any]] = []
        self.others = Learned(clusters)
        self.found: tuple[Layer, ...] = ()
        # Whether the projections have changed since the clusters were learned.
        self.stale = False
        if layers is not None:
            self.build(tuple(Layer(**{**each, "alpha": tuple(each["alpha"])}) for each in layers))

    def build(self, layers: tuple[Layer, ...]) -> None:
        """Build the projections of layers."""
        if not layers:
            raise ValueError("layers must hold at least 1 layer, got none")
        self.found = layers
        self.hparams["layers"] = [{**layer._asdict(), "alpha": list(layer.alpha)} for layer in layers]
        self.network = Projections(layers, self.width, self.hidden, self.shared, self.clusters)
        self.losses = nn.ModuleList(MeanMetric() for _ in layers)
        self.scores = ScoredGraphs(layers, [self.graph], strict=True)
        self.swept = ScoredGraphs(layers, self.variants or [], strict=False)

    def check_data(self, datamodule: Any) -> None:
        """Check the batches of a datamodule, and build the projections of its layers if they are not yet built.

        Raises:
            MisconfigurationException: It makes other batches, or has other layers than the projections.
        """
        super().check_data(datamodule)
        layers = getattr(datamodule, "layers", None)
        if layers is None:
            return
        if not self.found:
            self.build(tuple(layers))
        own, given = ([layer[:3] for layer in each] for each in (self.found, layers))
        if own != given:
            raise MisconfigurationException(f"the projections are of {_told(self.found)}, the data of {_told(layers)}")

    def configure_callbacks(self) -> list[Callback]:
        """Build the projections before the callbacks are set up."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.check_data(data)
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        """Check the data."""
        super().setup(stage)
        if not self.found:
            raise MisconfigurationException(
                "loaders alone do not say their layers: give SparsefinderProjections layers"
            )

    def forward(self, batch: QueryKeyBatch) -> list[tuple[Tensor, Tensor]]:
        """Project the queries and keys of each layer."""
        return [step.points for step in self.steps(batch)]

    def predict_step(self, batch: QueryKeyBatch, batch_idx: int) -> list[tuple[Tensor, Tensor]]:
        """Project the queries and keys of each layer."""
        return self(batch)

    def steps(self, batch: QueryKeyBatch) -> list[Step]:
        """What is computed of each layer of a batch.

        Raises:
            MisconfigurationException: Both of a token are projected together, and keys are of other tokens.
        """
        layers = zip(self.network.maps(), batch.layers, strict=True)
        try:
            return [Step(maps, each, maps(each), maps.weights(each)) for maps, each in layers]
        except ValueError as ex:
            raise MisconfigurationException(str(ex)) from ex

    def layer_loss(self, step: Step, generator: torch.Generator | None = None) -> Tensor:
        """Loss of a layer, of each head."""
        q, k = step.points
        gold, seen = step.maps.gold(step.weights, step.batch.seen), step.batch.seen
        return graph_loss(q, k, gold, seen, **vars(self.loss), generator=generator)

    def training_step(self, batch: QueryKeyBatch, batch_idx: int) -> Tensor:
        """Sum over layers of the mean loss of their heads, so that each is trained as if it were alone."""
        losses = [self.layer_loss(step).mean() for step in self.steps(batch)]
        of_layers = {f"train/loss/{layer.path}": loss for layer, loss in zip(self.found, losses, strict=True)}
        self.log_dict(of_layers, batch_size=1)
        self.log("train/loss", torch.stack(losses).mean(), prog_bar=True, batch_size=1)
        self.stale = True
        total = torch.stack(losses).sum()
        return total if self.network.nothing is None else total + self.network.nothing.sum()

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each layer by itself."""
        if not gradient_clip_val:
            return
        for maps in self.network.maps():
            if gradient_clip_algorithm == "value":
                nn.utils.clip_grad_value_(maps.parameters(), gradient_clip_val)
            else:
                nn.utils.clip_grad_norm_(maps.parameters(), gradient_clip_val)

    def on_fit_start(self) -> None:
        """Set untrained projections to the factors of scores."""
        clustered = self.of_data("clustered")
        if self.start != "scores" or clustered is None or not self.untrained:
            return
        start_from_scores(self.network, clustered, self.trainer)
        self.stale = True

    def on_validation_start(self) -> None:
        """Learn the clusters that a checkpoint after this validation holds."""
        super().on_validation_start()
        self.learn_clusters()

    def on_train_epoch_end(self) -> None:
        """Learn the clusters, where no validation has."""
        self.learn_clusters()

    def on_fit_end(self) -> None:
        """Learn the clusters of a training that was stopped within an epoch."""
        self.learn_clusters()

    def learn_clusters(self) -> None:
        """Learn the clusters of all layers on the first rank, if the projections have changed."""
        clustered = self.of_data("clustered")
        if clustered is None or not self.stale:
            return
        self.stale = False
        self.others.forget()
        for maps, batch in zip(self.network.maps(), clustered.layers, strict=True):
            found = maps.centroids
            if self.trainer.is_global_zero:
                found = centroids_of(maps, self._moved(batch), self.clusters)
            maps.centroids.copy_(self.trainer.strategy.broadcast(found))

    def _moved(self, batch: LayerBatch) -> LayerBatch:
        return self.trainer.strategy.batch_to_device(batch, self.device)

    def learned(self, layer: int, options: GraphOptions) -> dict[str, Tensor]:
        """Buffers of a graph's pattern, for a layer: those of the checkpoint, or learned now, by each rank the same.

        Raises:
            MisconfigurationException: The datamodule does not tell its training items, or these are too few.
        """

        def training() -> LayerBatch | None:
            clustered = self.of_data("clustered")
            return None if clustered is None else self._moved(clustered.layers[layer])

        return self.others.of(layer, self.network.maps()[layer], options, training)

    def validation_step(self, batch: QueryKeyBatch, batch_idx: int) -> None:
        """Score the graph of ``graph``."""
        steps = self.steps(batch)
        for step, metric in zip(steps, self.losses, strict=True):
            if len(step.batch.q):
                draw = torch.Generator(self.device).manual_seed(batch_idx)
                metric.update(self.layer_loss(step, draw).mean(), weight=len(step.batch.q))  # type: ignore[operator]
        self._score(self.scores, steps)

    def test_step(self, batch: QueryKeyBatch, batch_idx: int) -> None:
        """Score the graph of ``graph``, or the graphs of a sweep."""
        if self.variants is None:
            self.validation_step(batch, batch_idx)
            return
        steps = self.steps(batch)
        with progress_of(self.trainer, len(steps) * len(self.variants)) as progress:
            self._score(self.swept, steps, progress)

    def _score(self, scores: ScoredGraphs, steps: list[Step], progress: Progress | None = None) -> None:
        try:
            scores.update(steps, self.learned, progress)
        except ValueError as ex:
            raise MisconfigurationException(str(ex)) from ex

    def on_validation_epoch_end(self) -> None:
        """Log the scores under ``val/``."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores under ``test/``; those of a sweep are rows for callbacks alone."""
        if self.variants is None:
            self._log_scores("test")
        else:
            self.rows = self.swept.compute()

    def _log_scores(self, stage: str) -> None:
        self.rows = self.scores.compute()
        losses = {layer.path: metric.compute() for layer, metric in zip(self.found, self.losses, strict=True)}  # type: ignore[operator]
        self.log_dict(figures(stage, self.rows, losses), sync_dist=True)

    def graph_rows(self) -> list[dict[str, Any]]:
        """Scores of the last validation or test, over all ranks: a row for each graph, layer and head."""
        return self.rows


def _told(layers: tuple[Layer, ...]) -> str:
    """Layers in a few words."""
    first = layers[0]
    return f"{len(layers)} layers, {first.path} with {first.heads} heads of width {first.head_dim} and so on"
