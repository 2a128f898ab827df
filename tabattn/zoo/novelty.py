"""Novelty of generated networks: how far they are from training networks, beside noisy and averaged training networks.

Published generators of weights were found to return copies or mixtures of training networks, no better than noise or
averages at an equal quality (Zeng et al. 2025, arXiv 2506.07998). So novelty is judged together with quality.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from tabattn.contract.graphs import BIASED, WEIGHTED
from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.canonical import canonical
from tabattn.zoo.scores import architectures, common_outputs, joined, taken

NOISE = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Levels of noise, in standard deviations of the training networks' weights."""
MOST = 1000
"""Training networks whose nearest neighbour is sought, and noisy and averaged networks; of more, some at random."""
CANDIDATES = 4
"""Neighbours by the fast distance, of which the exact one is computed."""
ROWS = 256
"""Networks whose distances to all others are computed at once."""
QUALITY = 0.8
"""Share of the training networks' median quality that samples must reach."""


class NoveltyPoint(NamedTuple):
    """A point of the quality-novelty picture.

    Attributes:
        name: ``samples``, ``training``, ``noise`` or ``average``.
        level: Level of the noise; 0 of others.
        networks: Number of networks.
        weight: Novelty of weights: median distance to the nearest training network, over that among training networks.
        function: Novelty of outputs on common rows, so measured.
        quality: Median quality.
    """

    name: str
    level: float
    networks: int
    weight: float
    function: float
    quality: float


@dataclass(frozen=True)
class NoveltyGate:
    """Whether samples are new and good, and the points of the quality-novelty picture.

    Args:
        samples: The samples.
        training: The training networks, whose novelty is 1.
        noise: Noisy training networks, by level.
        average: Averages of pairs of training networks; none where no two share architecture and task.
    """

    samples: NoveltyPoint
    training: NoveltyPoint
    noise: tuple[NoveltyPoint, ...]
    average: NoveltyPoint | None

    @property
    def points(self) -> list[NoveltyPoint]:
        """All points."""
        return [self.samples, self.training, *self.noise, *([self.average] if self.average else [])]

    def noise_at(self, quality: float) -> float:
        """Novelty of weights that noise reaches at a quality: interpolated between levels, 0 without noise."""
        curve = [(0.0, self.training.quality), *((point.weight, point.quality) for point in self.noise)]
        reached = 0.0
        for (near, good), (far, bad) in pairwise(curve):
            if quality <= bad:
                reached = max(reached, far)
            elif quality <= good:
                reached = max(reached, near + (far - near) * (good - quality) / (good - bad))
        return reached

    @property
    def above_noise(self) -> bool:
        """Whether samples are further from training networks than noise is at their quality."""
        return self.samples.weight > self.noise_at(self.samples.quality)

    @property
    def above_average(self) -> bool:
        """Whether averages are not both as good and as far."""
        other = self.average
        return other is None or other.quality < self.samples.quality or other.weight < self.samples.weight

    @property
    def passed(self) -> bool:
        """Whether samples are as far as training networks are from one another, good, and above both baselines."""
        good = self.samples.quality >= QUALITY * self.training.quality
        return self.samples.weight >= 1 and good and self.above_noise and self.above_average


def novelty_gate(
    samples: NeuronTokens,
    training: NeuronTokens,
    rows: Tensor,
    score: Callable[[NeuronTokens, Tensor], Tensor],
    tasks: tuple[Tensor, Tensor],
    runs: Tensor | None = None,
    levels: Sequence[float] = NOISE,
    seed: int = 0,
) -> NoveltyGate:
    """Measure the novelty of samples in canonical form, and what noise and averages reach.

    Args:
        samples: Valid generated networks.
        training: Training networks.
        rows: Rows on which outputs are compared, ``(rows, inputs)``, with as many columns as the most inputs.
        score: Quality of networks on tasks, such as R2: networks and numbers of their tasks to ``(networks,)``.
        tasks: Number of the task of each sample, and of each training network, long.
        runs: Run of each training network: no neighbour is of the same run; none = each is of its own.
        levels: Levels of noise, in standard deviations of the training networks' weights.
        seed: Seed of noise and of choices.

    Raises:
        ValueError: There are fewer than 2 training networks or no samples.
    """
    count = len(training.mask)
    if count < 2 or not len(samples.mask):
        raise ValueError(f"needs 2 training networks and a sample at least, got {count} and {len(samples.mask)}")
    runs = torch.arange(count) if runs is None else runs.cpu()
    source = Generator().manual_seed(seed)
    training = canonical(training)
    chosen = torch.randperm(count, generator=source)[:MOST]
    among = _distances(taken(training, chosen), training, rows, (runs[chosen], runs))
    scale = [each[each.isfinite()].median().clamp(min=torch.finfo(each.dtype).tiny) for each in among]

    def point(name: str, networks: NeuronTokens, task: Tensor, level: float = 0.0) -> NoveltyPoint:
        found = _distances(canonical(networks), training, rows)
        weight, function = (float(each.median() / unit) for each, unit in zip(found, scale, strict=True))
        return NoveltyPoint(name, level, len(task), weight, function, float(score(networks, task).median()))

    originals, task = taken(training, chosen), tasks[1][chosen]
    quality = float(score(originals, task).median())
    pairs = mates(training, tasks[1], runs, source)
    averages = point("average", average(training, *pairs), tasks[1][pairs[0]]) if len(pairs[0]) else None
    noise = [point("noise", noisy(originals, level, source), task, level) for level in levels]
    reference = NoveltyPoint("training", 0.0, len(chosen), 1.0, 1.0, quality)
    return NoveltyGate(point("samples", samples, tasks[0]), reference, tuple(noise), averages)


def noisy(tokens: NeuronTokens, level: float, source: Generator | None = None) -> NeuronTokens:
    """Add normal noise to weights and biases: ``level`` standard deviations of all weights of the networks."""
    weighted = tokens.edge & ((tokens.flags & WEIGHTED) > 0)[:, :, None]
    biased = (tokens.flags & BIASED) > 0
    scale = level * tokens.weight[weighted].std()
    return tokens._replace(
        weight=torch.where(weighted, tokens.weight + scale * _normal(tokens.weight, source), tokens.weight),
        bias=torch.where(biased, tokens.bias + scale * _normal(tokens.bias, source), tokens.bias),
    )


def average(tokens: NeuronTokens, first: Tensor, second: Tensor) -> NeuronTokens:
    """Average weights and biases of pairs of networks of one architecture, given by their numbers."""
    one, two = taken(tokens, first), taken(tokens, second)
    return one._replace(weight=(one.weight + two.weight) / 2, bias=(one.bias + two.bias) / 2)


def mates(tokens: NeuronTokens, task: Tensor, run: Tensor, source: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw pairs of networks of different runs that share architecture and task: numbers of the first and second."""
    groups: dict[tuple[bytes, int], list[int]] = {}
    kinds = architectures(tokens)
    order = torch.randperm(len(kinds), generator=source).tolist()
    for index in order:
        groups.setdefault((kinds[index], int(task[index])), []).append(index)
    pairs = [pair for group in groups.values() for pair in pairwise(group) if run[pair[0]] != run[pair[1]]]
    found = torch.tensor(pairs[:MOST], dtype=torch.long).view(-1, 2)
    return found[:, 0], found[:, 1]


def _normal(like: Tensor, source: Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=source).to(like)


def _distances(
    networks: NeuronTokens, training: NeuronTokens, rows: Tensor, runs: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Distances to the nearest training network in weights and in outputs, each ``(networks,)``."""
    both, count = joined(networks, training), len(networks.mask)
    numbers, present = weight_vectors(both)
    in_weights = nearest(numbers[:count], numbers[count:], (present[:count], present[count:]), runs)
    # Together, as networks with more outputs than the others have longer vectors.
    computed = common_outputs(both, rows)
    outputs = computed[:count], computed[count:]
    finite = [each.isfinite().all(1) for each in outputs]
    in_outputs = nearest(
        outputs[0].nan_to_num(0.0), outputs[1][finite[1]], None, runs and (runs[0], runs[1][finite[1]])
    )
    return in_weights, torch.where(finite[0], in_outputs, torch.inf)


def weight_vectors(tokens: NeuronTokens) -> tuple[Tensor, Tensor]:
    """Weights and biases of networks, those of one place of each level in one column.

    Returns:
        Numbers, 0 where a network has none, and where it has one, each ``(networks, columns)``.
    """
    counts = torch.nn.functional.one_hot(tokens.level).mul(tokens.mask[..., None]).sum(1)
    widths = counts.max(0).values
    column = (widths.cumsum(0) - widths)[tokens.level] + tokens.place
    total = int(widths.sum())
    edge = (tokens.edge & ((tokens.flags & WEIGHTED) > 0)[:, :, None]).nonzero()
    bias = (((tokens.flags & BIASED) > 0) & tokens.mask).nonzero()
    network, child, parent = edge.unbind(1)
    keys = torch.cat(
        [column[network, child] * total + column[network, parent], total**2 + column[bias[:, 0], bias[:, 1]]]
    )
    owner = torch.cat([network, bias[:, 0]])
    kinds, place = keys.unique(return_inverse=True)
    numbers = tokens.weight.new_zeros(len(tokens.mask), len(kinds))
    numbers[owner, place] = torch.cat([tokens.weight[network, child, parent], tokens.bias[bias[:, 0], bias[:, 1]]])
    present = torch.zeros_like(numbers, dtype=torch.bool)
    present[owner, place] = True
    return numbers, present


def nearest(
    vectors: Tensor,
    others: Tensor,
    present: tuple[Tensor, Tensor] | None = None,
    groups: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Root mean squared difference of vectors to the nearest of others, over the columns that either has.

    Args:
        vectors: ``(vectors, columns)``.
        others: ``(others, columns)``.
        present: Which columns each has, 0 in those it lacks; none = all.
        groups: Group of each vector and of each other one: none of the same group is a neighbour; none = all are.

    Returns:
        ``(vectors,)``; infinite without a neighbour.
    """
    present = present or (torch.ones_like(vectors, dtype=torch.bool), torch.ones_like(others, dtype=torch.bool))
    has, have = (each.float() for each in present)
    found = []
    for at in range(0, len(vectors), ROWS):
        own, columns = vectors[at : at + ROWS], has[at : at + ROWS]
        union = columns.sum(1, keepdim=True) + have.sum(1) - columns @ have.T
        fast = torch.cdist(own, others) / union.clamp(min=1).sqrt()
        if groups is not None:
            fast[(groups[0][at : at + ROWS, None] == groups[1]).to(fast.device)] = torch.inf
        smallest, candidates = fast.topk(min(CANDIDATES, len(others)), largest=False)
        # The fast distance is that of a matrix product, which rounds off small ones.
        exact = (own[:, None].double() - others[candidates].double()).square().sum(2)
        exact = (exact / union.gather(1, candidates).clamp(min=1)).sqrt()
        found.append(exact.masked_fill(smallest.isinf(), torch.inf).amin(1))
    return torch.cat(found).float() if found else vectors.new_zeros(0)
