"""Networks for a user's own table: sampled for it, searched for it, and fine-tuned on it."""

import copy
from collections.abc import Callable
from functools import partial
from itertools import count
from math import inf
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor, nn

from tabattn.contract.checks import check_least
from tabattn.contract.modules import to_module
from tabattn.contract.networks import NeuronTokens
from tabattn.metafeatures import MetaScaler, get_meta_features, numbers
from tabattn.zoo.coder import NetworkCoder
from tabattn.zoo.priors import Prior
from tabattn.zoo.scores import taken
from tabattn.zoo.search import Found, SearchOptions, search
from tabattn.zoo.task_scores import task_r2
from tabattn.zoo.tokens import detokenize

ROUNDS = 1_000_000
"""Most draws of a search: those of another seed have other random numbers."""


class Table(NamedTuple):
    """Table as a zoo's tasks are: standardised, with scaled meta-features.

    Attributes:
        x: Rows, ``(rows, inputs)``.
        y: Targets, ``(rows, 1)``.
        meta: Scaled meta-features, ``(features,)``.
        x_scale: Mean and standard deviation of each column, ``(2, inputs)`` double: large numbers may differ little.
        y_scale: Those of the target, ``(2,)`` double.
    """

    x: Tensor
    y: Tensor
    meta: Tensor
    x_scale: Tensor
    y_scale: Tensor

    @classmethod
    def of(cls, x: ArrayLike, y: ArrayLike, scaler: MetaScaler) -> "Table":
        """Standardise a table and measure its meta-features.

        Args:
            x: Rows, ``(rows, inputs)``; NaN = missing, which counts as the mean.
            y: Numeric targets, ``(rows,)`` or ``(rows, 1)``.
            scaler: Scaler of the zoo.

        Raises:
            ValueError: The shapes do not fit, the target is constant or not finite, or a column has no number.
        """
        rows, target = numbers("x", x), _target(y)
        if rows.ndim != 2 or len(rows) != len(target) or not len(rows):
            raise ValueError(f"x and y must have the shapes (rows, inputs) and (rows,), got {np.shape(x), np.shape(y)}")
        if not np.isfinite(target).all() or np.ptp(target) == 0:
            raise ValueError("y must have finite numbers, not all the same")
        rows = np.where(np.isfinite(rows), rows, np.nan)
        if np.isnan(rows).all(0).any():
            raise ValueError(f"column {int(np.isnan(rows).all(0).argmax())} of x has no number")
        found = get_meta_features(rows, target, task="regression")
        mean, std = _moments(np.column_stack([rows, target]))
        as_float = partial(torch.as_tensor, dtype=torch.float)
        return cls(
            as_float(np.nan_to_num((rows - mean[:-1]) / std[:-1])),
            as_float((target - mean[-1]) / std[-1])[:, None],
            as_float(scaler(found.values, found.valid)),
            torch.from_numpy(np.stack([mean[:-1], std[:-1]])),
            torch.from_numpy(np.stack([mean[-1], std[-1]])),
        )


def _target(y: ArrayLike) -> NDArray[np.float64]:
    """Targets ``(rows,)``, of that shape or of ``(rows, 1)``."""
    target = numbers("y", y)
    return target[:, 0] if target.ndim == 2 and target.shape[1] == 1 else target


def _moments(columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of columns, without those that are missing; 1 where a column is constant."""
    # Squares of large numbers would be infinite, and those of small ones 0.
    largest = np.nanmax(np.abs(columns), axis=0)
    largest = np.where(largest > 0, largest, 1.0)
    scaled = columns / largest
    std = np.nanstd(scaled, axis=0) * largest
    constant = (np.nanmin(columns, axis=0) == np.nanmax(columns, axis=0)) | (std == 0)
    return np.nanmean(scaled, axis=0) * largest, np.where(constant, 1.0, std)


class TableNetwork(nn.Module):
    """Network for a table in its own units: standardises the inputs, and returns targets in their units.

    Args:
        network: Network of standardised inputs and targets.
        table: The table that gives the units.
    """

    x_scale: Tensor
    y_scale: Tensor

    def __init__(self, network: nn.Module, table: Table) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("x_scale", table.x_scale)
        self.register_buffer("y_scale", table.y_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Predict targets ``(rows,)`` of rows ``(rows, inputs)``; NaN = missing, which counts as the mean.

        Raises:
            ValueError: The table has another number of columns.
        """
        if x.shape[-1] != self.x_scale.shape[1]:
            raise ValueError(f"x must have {self.x_scale.shape[1]} columns, got {x.shape[-1]}")
        kind = next((each.dtype for each in self.network.parameters()), torch.float)
        rows = ((x.to(self.x_scale) - self.x_scale[0]) / self.x_scale[1]).nan_to_num(0.0, 0.0, 0.0)
        found: Tensor = self.network(rows.to(kind))[..., 0].to(self.y_scale)
        return (found * self.y_scale[1] + self.y_scale[0]).to(x.dtype if x.is_floating_point() else kind)


class OwnData:
    """Mixin of the task: networks for a user's own table."""

    network: NetworkCoder
    meta_scaling: Tensor
    draw: Callable[..., Tensor]
    decode: Callable[..., NeuronTokens]

    def table(self, x: ArrayLike, y: ArrayLike) -> Table:
        """Describe a table as the networks' tasks were described.

        Raises:
            ValueError: The shapes do not fit, or there are more columns than networks may have inputs.
        """
        mean, std = self.meta_scaling.double().cpu().numpy()
        found = Table.of(x, y, MetaScaler(mean, std))
        if found.x.shape[1] > self.network.sizes.inputs:
            raise ValueError(f"x must have at most {self.network.sizes.inputs} columns, got {found.x.shape[1]}")
        return found

    def sample_for(
        self,
        x: ArrayLike,
        y: ArrayLike,
        n: int = 3,
        *,
        candidates: int = 64,
        prior: Prior = "flow",
        temperature: float = 1.0,
        seed: int | None = 0,
    ) -> list[TableNetwork]:
        """Sample networks for a table: the best on its rows of many that are drawn for its meta-features or rows.

        Args:
            x: Rows, ``(rows, inputs)``.
            y: Numeric targets, ``(rows,)``.
            n: Number of networks.
            candidates: Number of networks that are drawn.
            prior: Distribution of latents: ``normal``, ``scaled``, ``gauss``, ``kde`` or ``flow``.
            temperature: Factor on the standard deviation of their noise.
            seed: Seed; none = PyTorch's own state.

        Returns:
            Networks of raw rows, best first. They can be trained further, such as by ``fine_tune``.

        Raises:
            ValueError: The shapes do not fit, or there are more columns than networks may have inputs.
        """
        check_least(n=(n, 1), candidates=(candidates, n))
        table = self.table(x, y)
        latents = self.draw(candidates, table.meta, table.x, table.y, prior, temperature, seed)
        return self.ranked(self.decode_for(latents, table), table)[:n]

    def decode_for(self, latents: Tensor, table: Table) -> NeuronTokens:
        """Decode latents to networks with the inputs and the output of a table."""
        return self.decode(latents, table.meta, table.x, table.y, inputs=table.x.shape[1])

    def search_for(
        self,
        x: ArrayLike,
        y: ArrayLike,
        method: str = "nsga2",
        options: SearchOptions | None = None,
        prior: Prior = "flow",
    ) -> tuple[Found, list[TableNetwork]]:
        """Search latents for networks that are good on a table, and small; see ``tabattn.zoo.search.search``.

        Args:
            x: Rows, ``(rows, inputs)``; test rows are not to be among them.
            y: Numeric targets, ``(rows,)``.
            method: ``nsga2``, ``cmaes``, ``gradient`` or ``random``.
            options: Options; none = their defaults.
            prior: Distribution of the first latents, and of all those of ``random``.

        Returns:
            What was evaluated, and the networks that no other one beats in both R2 and size, best first.
        """
        table = self.table(x, y)
        place = self.meta_scaling.device
        decode = partial(self.decode_for, table=table)
        rows, targets = self.with_all_columns(table.x).to(place), table.y.to(place)
        seeds = count((options or SearchOptions()).seed * ROUNDS)

        def draw(number: int) -> Tensor:
            return self.draw(number, table.meta, table.x, table.y, prior, 1.0, next(seeds))

        found = search(decode, rows, targets, self.network.latent, method, options, draw)
        return found, self.ranked(decode(found.latents[found.front().to(place)]), table)

    def with_all_columns(self, x: Tensor) -> Tensor:
        """Rows with as many columns as networks may have inputs."""
        return nn.functional.pad(x, (0, self.network.sizes.inputs - x.shape[1]))

    def ranked(self, tokens: NeuronTokens, table: Table) -> list[TableNetwork]:
        """Networks of a table as modules, the best on its rows first."""
        tokens = NeuronTokens(*(part.cpu() for part in tokens))
        x, y = (each.expand(len(tokens.mask), -1, -1) for each in (self.with_all_columns(table.x), table.y))
        order = task_r2(tokens, x, y).argsort(descending=True, stable=True)
        return [TableNetwork(to_module(dag), table) for dag in detokenize(taken(tokens, order))]


def fine_tune(
    network: nn.Module,
    x: ArrayLike,
    y: ArrayLike,
    steps: int = 200,
    *,
    lr: float = 1e-2,
    batch_size: int = 50,
    seed: int = 0,
) -> nn.Module:
    """Train a copy of a network further on a table, by Adam on the mean squared error.

    Args:
        network: Module from rows ``(rows, inputs)`` to targets ``(rows,)`` or ``(rows, 1)``, such as those of
            ``sample_for``.
        x: Rows, ``(rows, inputs)``.
        y: Numeric targets, ``(rows,)`` or ``(rows, 1)``.
        steps: Steps.
        lr: Learning rate.
        batch_size: Rows of a step.
        seed: Seed of the rows of each step.

    Returns:
        The trained copy, in evaluation mode.

    Raises:
        ValueError: The shapes do not fit, a target is not finite, or an option is out of its bounds.
    """
    check_least(steps=(steps, 0), batch_size=(batch_size, 1))
    if not 0 < lr < inf:
        raise ValueError(f"lr must be above 0 and finite, got {lr}")
    tuned, source = copy.deepcopy(network).train(), Generator().manual_seed(seed)
    kind = torch.double if isinstance(network, TableNetwork) else torch.float
    rows, target = (torch.as_tensor(each, dtype=kind) for each in (numbers("x", x), _target(y)))
    if target.dim() != 1 or len(rows) != len(target) or not len(rows):
        shapes = tuple(rows.shape), np.shape(y)
        raise ValueError(f"x and y must have the shapes (rows, inputs) and (rows,), got {shapes}")
    if not target.isfinite().all():
        raise ValueError("y must have finite numbers")
    if not steps:
        return tuned.eval()
    variance = target.var(correction=0).clamp(min=1e-12)
    adam = torch.optim.Adam(tuned.parameters(), lr=lr)
    for _ in range(steps):
        chosen = torch.randint(len(rows), (min(batch_size, len(rows)),), generator=source)
        found = tuned(rows[chosen])
        if found.shape not in (chosen.shape, (*chosen.shape, 1)):
            raise ValueError(f"network must have one output for each of {len(chosen)} rows, got {tuple(found.shape)}")
        adam.zero_grad()
        ((found.flatten() - target[chosen]).square().mean() / variance).backward()
        adam.step()
    return tuned.eval()
