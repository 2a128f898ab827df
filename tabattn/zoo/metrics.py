"""Metrics of reconstructed networks, pooled over batches and ranks; ``compute`` returns scores by name."""

import torch
from torch import Tensor
from torchmetrics import Metric

from tabattn.contract.graphs import WEIGHTED
from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.scores import Matches, aligned, computed, cosine_similarity, functional_r2, matches, penultimate, taken
from tabattn.zoo.task_scores import task_scores

LEVELS = 256
"""Most levels of a network."""
GOOD = 0.9
"""Functional R2 above which a network counts as reconstructed."""


class NetworkMetric(Metric):
    """Metric of reconstructed networks beside their originals; those that are not to be scored are left out."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    def add(self, **initial: Tensor) -> None:
        """Add sums over networks, or with an empty tensor the values of each network."""
        for name, value in initial.items():
            if value.numel():
                self.add_state(name, value, dist_reduce_fx="sum")
            else:
                self.add_state(name, [], dist_reduce_fx="cat")

    def joined(self, state: list[Tensor] | Tensor) -> Tensor:
        """Values of all networks, ``(networks,)``."""
        return state if isinstance(state, Tensor) else torch.cat([*state, torch.zeros(0, device=self.device)])


class StructureScores(NetworkMetric):
    """Agreement of graphs, of decodings that saw nothing of the originals.

    ``type_accuracy`` and ``level_accuracy``: share of the originals' vertices. ``edge_accuracy``: share of the pairs of
    an earlier and a later token, both vertices of either network, that have an edge in both networks or in none;
    ``edge_precision``, ``edge_recall`` and ``edge_f1`` of the edges. ``architecture_exact``: share of the networks in
    which vertices, types, levels, flags and edges are all right.
    """

    counts: Tensor
    networks: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add(counts=torch.zeros(len(Matches._fields), dtype=torch.long), networks=torch.tensor(0))

    def update(self, found: NeuronTokens, true: NeuronTokens, scored: Tensor | None = None) -> None:
        """Add networks.

        Args:
            found: Reconstructed networks.
            true: The originals.
            scored: Which of them count, ``(networks,)`` boolean; none = all.
        """
        counted = torch.stack(list(matches(found, true)))
        counted = counted if scored is None else counted[:, scored]
        self.counts += counted.sum(1)
        self.networks += counted.shape[1]

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores; NaN where there is nothing to score."""
        total = Matches(*self.counts.double())
        precision, recall = total.hits / total.found, total.hits / total.edges
        return {
            "type_accuracy": total.types / total.vertices,
            "level_accuracy": total.levels / total.vertices,
            "edge_accuracy": total.agreeing / total.pairs,
            "edge_precision": precision,
            "edge_recall": recall,
            "edge_f1": 2 * total.hits / (total.found + total.edges),
            "architecture_exact": total.exact / self.networks,
        }


class WeightR2(NetworkMetric):
    """R2 of weights: ``1 - SSE / SST`` over the originals' edges, about the mean weight of each level.

    An edge that is missing in the reconstruction counts as a weight of 0.
    """

    error: Tensor
    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        zeros = torch.zeros(LEVELS, dtype=torch.double)
        self.add(error=zeros[0].clone(), count=zeros.clone(), total=zeros.clone(), squares=zeros.clone())

    def update(self, found: NeuronTokens, true: NeuronTokens, scored: Tensor | None = None) -> None:
        """Add networks.

        Args:
            found: Reconstructed networks.
            true: The originals.
            scored: Which of them count, ``(networks,)`` boolean; none = all.
        """
        found, true = aligned(found, true)
        real = true.edge & ((true.flags & WEIGHTED) > 0)[:, :, None]
        if scored is not None:
            real = real & scored[:, None, None]
        level = true.level[:, :, None].expand_as(real)[real]
        weight, other = true.weight[real].double(), torch.where(found.edge, found.weight, 0.0)[real].double()
        self.error += (weight - other).square().sum()
        for state, values in ((self.count, torch.ones_like(weight)), (self.total, weight), (self.squares, weight**2)):
            state.index_add_(0, level, values)

    def compute(self) -> dict[str, Tensor]:
        """Compute the score; NaN where there is nothing to score."""
        about = self.squares - self.total.square() / self.count.clamp(min=1)
        return {"weight_r2": 1 - self.error / about.sum()}


class FunctionScores(NetworkMetric):
    """Agreement of functions on probe rows.

    ``functional_r2``: median over networks of ``1 - mean((found - true)^2) / Var(true)``; ``functional_r2_mean``: mean
    of those, clipped to [-1, 1]; ``functional_r2_good``: share above 0.9; ``constant``: share of networks whose output
    is constant, which are left out of these. ``cosine_similarity``: mean cosine of the activations that enter the last
    layer, over networks and rows; ``cosine_distance``: 1 less that; ``cosine_undefined``: share of rows left out, as
    either activation is 0 or there is no hidden layer.
    """

    r2: list[Tensor]
    cosine: Tensor
    rows: Tensor
    undefined: Tensor

    def __init__(self) -> None:
        super().__init__()
        zero = torch.zeros((), dtype=torch.double)
        self.add(r2=torch.zeros(0), cosine=zero.clone(), rows=zero.clone(), undefined=zero.clone())

    def update(self, found: NeuronTokens, true: NeuronTokens, probe: Tensor, scored: Tensor | None = None) -> None:
        """Add networks.

        Args:
            found: Reconstructed networks.
            true: The originals.
            probe: Rows of each network, ``(networks, rows, inputs)``.
            scored: Which of them count, ``(networks,)`` boolean; none = all.
        """
        if scored is not None:
            found, true, probe = taken(found, scored), taken(true, scored), probe[scored]
        values = [computed(each, probe) for each in (found, true)]
        self.r2.append(functional_r2(values[0].outputs, values[1].outputs))
        before = [penultimate(each, value.values) for each, value in zip((found, true), values, strict=True)]
        cosine = cosine_similarity(*before)
        self.cosine += cosine.nansum().double()
        self.rows += cosine.numel()
        self.undefined += cosine.isnan().sum()

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores; NaN where there is nothing to score."""
        joined = self.joined(self.r2)
        r2 = joined[~joined.isnan()]
        cosine = self.cosine / (self.rows - self.undefined)
        return {
            "functional_r2": r2.median() if len(r2) else self.cosine.new_tensor(torch.nan),
            "functional_r2_mean": r2.clamp(-1, 1).mean(),
            "functional_r2_good": (r2 > GOOD).double().mean(),
            "constant": joined.isnan().double().mean(),
            "cosine_similarity": cosine,
            "cosine_distance": 1 - cosine,
            "cosine_undefined": self.undefined / self.rows,
        }


class TaskScores(NetworkMetric):
    """Scores of networks on their own tasks: medians over networks.

    ``task_r2`` of the reconstructed, ``task_r2_original`` of the originals, ``delta_task`` of their differences. Where
    tasks have classes, ``task_accuracy``, ``task_accuracy_original`` and ``delta_accuracy`` are of their networks.
    """

    found: list[Tensor]
    true: list[Tensor]
    of_classes: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add(found=torch.zeros(0), true=torch.zeros(0), of_classes=torch.zeros(0))

    def update(
        self,
        found: NeuronTokens,
        true: NeuronTokens,
        x: Tensor,
        y: Tensor,
        scored: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> None:
        """Add networks.

        Args:
            found: Reconstructed networks.
            true: The originals.
            x: Rows of each network's task, ``(networks, rows, inputs)``; NaN = a column that is not there.
            y: Targets, ``(networks, rows, outputs)``; NaN = not scored.
            scored: Which of them count, ``(networks,)`` boolean; none = all.
            classes: Number of classes of each task, ``(networks,)``; 0 = numbers; none = all are numbers.
        """
        classes = torch.zeros(len(y), dtype=torch.long, device=y.device) if classes is None else classes
        if scored is not None:
            found, true, x, y = taken(found, scored), taken(true, scored), x[scored], y[scored]
            classes = classes[scored]
        self.found.append(task_scores(found, x, y, classes))
        self.true.append(task_scores(true, x, y, classes))
        self.of_classes.append(classes > 0)

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores; NaN where there is nothing to score."""
        found, true, of_classes = (self.joined(state) for state in (self.found, self.true, self.of_classes))
        parts: dict[str, Tensor] = {}
        for name, delta, own in (("r2", "task", of_classes == 0), ("accuracy", "accuracy", of_classes > 0)):
            # Of a zoo without classes, or without numbers, the scores that it has alone.
            if own.any() or (name == "r2" and not len(own)):
                parts |= {f"task_{name}": found[own], f"task_{name}_original": true[own]}
                parts[f"delta_{delta}"] = found[own] - true[own]
        return {name: part.nanmedian() if len(part) else part.new_tensor(torch.nan) for name, part in parts.items()}
