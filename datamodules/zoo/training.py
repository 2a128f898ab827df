"""Population training: many networks trained at once by Adam, each as if it were alone.

Networks of one depth are one network of padded layers with a leading dimension. Neurons that a network does not have
have no weights; those stay 0, as do their gradients. The loss is the sum of the networks' mean squared
errors, so that gradients, and Adam's steps with them, are those of each alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.zoo import streams
from datamodules.zoo.architectures import SKIPPED, Runs
from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.graphs import BIASED, OUTPUT, WEIGHTED, Population
from tabattn.contract.networks import NeuronTokens

BETAS, EPSILON = (0.9, 0.999), 1e-8
DEAD = 1e-3
"""Standard deviation of the outputs below which a network is constant."""


class Table(NamedTuple):
    """Rows of all tasks behind one another.

    Attributes:
        rows: Inputs, then the target, ``(tasks * rows, columns + 1)``; 0 where there is none.
        part: Part of each row, ``(tasks, rows)``.
        train: Number of training rows of each task, which come first, ``(tasks,)``.
    """

    rows: Tensor
    part: Tensor
    train: Tensor


class Layers(NamedTuple):
    """Padded layers of a bucket of networks, the output layer last.

    Attributes:
        sizes: Columns of the inputs and of each layer.
        skips: Whether layers see all layers before them, not only the last.
        masks: For each layer which weights there are, ``(networks, inputs, outputs)``, then for each which biases.
        codes: Codes of the activation functions of each hidden layer, ``(networks, layers)``.
    """

    sizes: list[int]
    skips: bool
    masks: list[Tensor]
    codes: Tensor

    @classmethod
    def of(cls, runs: Runs, columns: int, seed: int) -> "Layers":
        """Lay out a bucket.

        Args:
            runs: Runs of one depth.
            columns: Most columns of a task.
            seed: Seed of missing weights.
        """
        depth, skips = int(runs.depth[0]), bool(runs.skips.any())
        ones = torch.ones_like(runs.run)[:, None]
        widths = torch.cat([runs.inputs[:, None], runs.width[:, :depth], ones], 1)
        sizes = [columns, *widths[:, 1:].amax(0).tolist()]
        real = [torch.arange(size, device=ones.device) < widths[:, at, None] for at, size in enumerate(sizes)]
        biased = torch.cat([runs.bias[:, :depth], runs.bias[:, -1:]], 1)
        weights = [_weights(runs, real, layer, skips, seed) for layer in range(1, depth + 2)]
        biases = [(real[layer] & biased[:, layer - 1, None])[:, None] for layer in range(1, depth + 2)]
        return cls(sizes, skips, [*weights, *biases], runs.activation[:, :depth])

    def sources(self, layer: int) -> Tensor:
        """Number of each neuron that a layer sees, that does not depend on the sizes: by its level and place there."""
        levels = range(layer + 1) if self.skips else range(layer, layer + 1)
        return torch.cat([torch.arange(self.sizes[level]) + (level << 16) for level in levels])

    def at(self, index: Tensor) -> "Layers":
        """Layout of some networks of the bucket, in the same columns."""
        index = index.to(self.codes.device)
        return self._replace(masks=[mask[index] for mask in self.masks], codes=self.codes[index])

    def split(self, flat: Tensor) -> list[Tensor]:
        """Weights of all layers, then biases, of parameters ``(networks, parameters)``."""
        sizes = [mask[0].numel() for mask in self.masks]
        return [part.view(mask.shape) for part, mask in zip(flat.split(sizes, 1), self.masks, strict=True)]

    def flat(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of ``split``."""
        return torch.cat([part.flatten(1) for part in parts], 1)


def _weights(runs: Runs, real: list[Tensor], layer: int, skips: bool, seed: int) -> Tensor:
    """Which weights a layer has; each neuron has at least one."""
    sources = range(layer) if skips else range(layer - 1, layer)
    each = runs.run[:, None, None]
    parts = []
    for source in sources:
        mask = real[source][:, :, None] & real[layer][:, None, :]
        if source < layer - 1:
            drawn = streams.uniform(seed, streams.SKIP, each, layer, source + 1) < SKIPPED
            mask = mask & drawn & runs.skips[:, None, None]
        row, column = (torch.arange(size, device=mask.device) for size in mask.shape[1:])
        kept = streams.uniform(seed, streams.SPARSE, each, layer, source, row[:, None], column)
        kept = kept < runs.kept[:, None, None]
        if source == layer - 1:
            parent = streams.below(real[source].sum(1)[:, None], seed, streams.SPARSE, runs.run[:, None], layer, column)
            kept |= row[:, None] == parent[:, None, :]
        parts.append(mask & kept)
    return torch.cat(parts, 1)


def initial(layers: Layers, runs: Runs, seed: int) -> Tensor:
    """Initial parameters ``(networks, parameters)`` of ``nn.Linear``, by the number of weights of a neuron."""
    count = len(layers.masks) // 2
    parts = []
    for number, mask in enumerate(layers.masks):
        fan = layers.masks[number % count].sum(1, keepdim=True).clamp(min=1)
        layer, column = number % count, torch.arange(mask.shape[2], device=mask.device)
        row = layers.sources(layer) if number < count else torch.zeros(1, dtype=torch.long)
        each = runs.run[:, None, None], int(number < count), layer, row.to(mask.device)[:, None], column
        drawn = streams.uniform(seed, streams.INIT, *each)
        parts.append(((2 * drawn - 1) / fan.sqrt()).float().masked_fill(~mask, 0))
    return layers.flat(parts)


Mixed = Callable[[Tensor], Tensor]


def mixed(codes: Tensor) -> Mixed:
    """Activation function of a layer, whose networks have different ones.

    Args:
        codes: Code of each network's, ``(networks,)``.
    """
    functions = list(ACTIVATIONS.values())
    present = codes.unique().tolist()
    if len(present) == 1:
        return functions[present[0]]
    order = torch.argsort(codes, stable=True)
    counts = torch.bincount(codes)[present].tolist()
    plain = bool((order.diff() > 0).all())
    back = torch.argsort(order)

    def compute(values: Tensor) -> Tensor:
        parts = (values if plain else values[order]).split(counts)
        found = torch.cat([functions[code](part) for code, part in zip(present, parts, strict=True)])
        return found if plain else found[back]

    return compute


def forward(parts: Sequence[Tensor], x: Tensor, activations: Sequence[Mixed], skips: bool) -> Tensor:
    """Outputs ``(networks, rows, 1)`` of inputs ``(networks, rows, columns)``."""
    count = len(activations)
    weights, biases = parts[: count + 1], parts[count + 1 :]
    values = x
    for weight, bias, activation in zip(weights[:-1], biases[:-1], activations, strict=True):
        found = activation(torch.baddbmm(bias, values, weight))
        values = torch.cat([values, found], 2) if skips else found
    return torch.baddbmm(biases[-1], values, weights[-1])


class Adam:
    """Adam (Kingma and Ba 2015) with a learning rate for each network.

    Args:
        flat: Parameters, ``(networks, parameters)``; changed in place.
        rate: Learning rates, ``(networks,)``.
    """

    def __init__(self, flat: Tensor, rate: Tensor) -> None:
        self.flat, self.rate = flat, rate[:, None]
        self.mean, self.square = torch.zeros_like(flat), torch.zeros_like(flat)
        self.steps = 0

    def step(self, gradient: Tensor) -> None:
        """Update the parameters by a gradient of their shape."""
        self.steps += 1
        self.mean.lerp_(gradient, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        size = self.square.sqrt().div_((1 - BETAS[1] ** self.steps) ** 0.5).add_(EPSILON)
        self.flat.addcdiv_(self.mean * self.rate, size, value=-1 / (1 - BETAS[0] ** self.steps))


class Trained(NamedTuple):
    """Networks at the checkpoints of their training.

    Attributes:
        layers: Their layout.
        parameters: Parameters, ``(networks, checkpoints, parameters)``.
        r2: R2 in training, validation and test rows, ``(networks, checkpoints, 3)``.
        constant: Whether outputs do not vary or are not finite, ``(networks, checkpoints)``.
    """

    layers: Layers
    parameters: Tensor
    r2: Tensor
    constant: Tensor


def train(runs: Runs, table: Table, steps: Sequence[int], batch: int, seed: int) -> Trained:
    """Train a bucket of networks.

    Args:
        runs: Runs of one depth.
        table: The tasks, on the device to train on.
        steps: Steps after which networks are kept, rising.
        batch: Rows of a step, drawn with replacement.
        seed: Seed.
    """
    runs = runs.to(table.rows.device)
    layers = Layers.of(runs, table.rows.shape[1] - 1, seed)
    flat = initial(layers, runs, seed)
    absent = ~layers.flat(layers.masks)
    parts = [part.requires_grad_() for part in layers.split(flat)]
    activations = [mixed(codes) for codes in layers.codes.T]
    optimizer = Adam(flat, runs.rate)
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    for step in range(steps[-1]):
        numbers = batch_rows(runs, table, step, batch, seed)
        rows = table.rows.index_select(0, numbers.flatten()).view(*numbers.shape, -1)
        error = forward(parts, rows[..., :-1], activations, layers.skips) - rows[..., -1:]
        gradients = torch.autograd.grad(error.square().sum() / batch, parts)
        with torch.no_grad():
            optimizer.step(layers.flat(gradients).masked_fill_(absent, 0))
            if step + 1 in steps:
                kept.append((flat.clone(), *_scores(parts, runs, table, activations, layers.skips)))
    parameters, r2, constant = (torch.stack(each, 1) for each in zip(*kept, strict=True))
    return Trained(layers, parameters, r2, constant)


def batch_rows(runs: Runs, table: Table, step: int, batch: int, seed: int) -> Tensor:
    """Numbers of the rows of a step in the table, ``(networks, batch)``."""
    place = torch.arange(batch, device=runs.run.device)
    drawn = streams.below(table.train[runs.task][:, None], seed, streams.BATCH, runs.run[:, None], step, place)
    return drawn + (runs.task * table.part.shape[1])[:, None]


def _scores(
    parts: Sequence[Tensor], runs: Runs, table: Table, activations: Sequence[Mixed], skips: bool
) -> tuple[Tensor, Tensor]:
    """R2 in each part, ``(networks, 3)``, and whether networks are dead."""
    rows = table.rows.view(*table.part.shape, -1)[runs.task]
    part = table.part[runs.task]
    found, target = forward(parts, rows[..., :-1], activations, skips)[..., 0], rows[..., -1]
    scores = []
    for number in range(3):
        own = (part == number).float()
        count = own.sum(1)
        centre = (target * own).sum(1, keepdim=True) / count[:, None]
        residual, total = ((found - target).square() * own).sum(1), ((target - centre).square() * own).sum(1)
        scores.append(1 - residual / total)
    there = found.masked_fill(part > 2, torch.nan)
    spread = (there - there.nanmean(1, keepdim=True)).square().nanmean(1).sqrt()
    return torch.stack(scores, 1), ~(found.isfinite().all(1) & (spread >= DEAD))


def population_of(layers: Layers, runs: Runs, flat: Tensor) -> Population:
    """Graphs of networks.

    Args:
        layers: Layout of the bucket.
        runs: Its runs.
        flat: Parameters, ``(networks, parameters)``.
    """
    tokens = _columns(layers, runs.to(flat.device), flat)
    network, _, column = tokens.edge.nonzero().T
    place = tokens.mask.cumsum(1) - 1
    return replace(tokens.population(), source=place[network, column].cpu().numpy())


def _columns(layers: Layers, runs: Runs, flat: Tensor) -> NeuronTokens:
    """Neurons of networks in padded columns: those of the inputs, then of each layer."""
    parts, sizes = layers.split(flat), layers.sizes
    count, total = len(sizes) - 1, sum(sizes)
    starts = [sum(sizes[:level]) for level in range(len(sizes))]
    shape = len(flat), total
    kind, flags = (torch.zeros(shape, dtype=torch.long, device=flat.device) for _ in range(2))
    bias, mask = torch.zeros(shape, device=flat.device), torch.zeros(shape, dtype=torch.bool, device=flat.device)
    weight, edge = torch.zeros(*shape, total, device=flat.device), mask[:, None].repeat(1, total, 1)
    mask[:, : sizes[0]] = torch.arange(sizes[0], device=flat.device) < runs.inputs[:, None]
    for level in range(1, count + 1):
        own, first = slice(starts[level], starts[level] + sizes[level]), 0 if layers.skips else starts[level - 1]
        there, biased = layers.masks[level - 1], layers.masks[count + level - 1][:, 0]
        mask[:, own] = there.any(1)
        edge[:, own, first : starts[level]] = there.mT
        weight[:, own, first : starts[level]] = parts[level - 1].mT
        bias[:, own] = parts[count + level - 1][:, 0]
        flags[:, own] = WEIGHTED * mask[:, own] + BIASED * biased
        if level < count:
            kind[:, own] = layers.codes[:, level - 1, None] * mask[:, own]
        else:
            flags[:, own] += OUTPUT
    levels = torch.repeat_interleave(torch.arange(count + 1), torch.tensor(sizes)).to(flat.device)
    return NeuronTokens(kind, levels * mask, flags, bias, weight, edge, mask)
