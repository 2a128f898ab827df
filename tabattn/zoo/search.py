"""Latent search: latents whose networks are good on given data, and small."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from tabattn.contract.checks import check_least, nearest
from tabattn.contract.extras import remedy
from tabattn.contract.graphs import BIASED, WEIGHTED
from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.executor import execute
from tabattn.zoo.task_scores import task_r2

Decode = Callable[[Tensor], NeuronTokens]
"""Decoder: latents ``(networks, latent)`` to valid networks, all at once."""
Draw = Callable[[int], Tensor]
"""Prior: a number to so many latents, ``(networks, latent)``."""

WORST = -1e3
"""Quality of a network whose outputs are not finite, and the least there is."""
SEEDS = 2**32 - 1
"""Largest seed that all methods take."""
LARGEST_ERROR = 10.0
"""Relative squared error beyond which the gradient method does not follow a network."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of a latent search.

    Args:
        evaluations: Networks that are evaluated.
        population: Networks that are decoded and evaluated at once: a generation, or the starts of the gradient method.
        bound: Largest absolute value of a latent number in NSGA-II.
        lr: Learning rate of the gradient method.
        penalty: Weight of the negative log-density of latents under N(0, I), per dimension, in the gradient method.
        seed: Seed, up to 2**32 - 1.

    Raises:
        ValueError: An option is out of its bounds.
    """

    evaluations: int = 1000
    population: int = 50
    bound: float = 4.0
    lr: float = 0.05
    penalty: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(evaluations=(self.evaluations, 1), population=(self.population, 2))
        if not (0 < self.bound < inf and 0 < self.lr < inf and 0 <= self.penalty < inf):
            values = self.bound, self.lr, self.penalty
            raise ValueError(f"bound and lr must be above 0, penalty at least 0, and all finite, got {values}")
        if not 0 <= self.seed <= SEEDS:
            raise ValueError(f"seed must be 0 to {SEEDS}, got {self.seed}")


@dataclass(frozen=True)
class Found:
    """What a search evaluated, in order.

    Args:
        latents: Latents, ``(evaluations, latent)``.
        quality: R2 of their networks on the data, ``(evaluations,)``.
        size: Numbers of weights and biases, ``(evaluations,)`` long.
    """

    latents: Tensor
    quality: Tensor
    size: Tensor

    def best(self, count: int = 1) -> Tensor:
        """Latents of the best networks, ``(count, latent)``, best first."""
        return self.latents[self.quality.argsort(descending=True, stable=True)[:count]]

    def so_far(self) -> Tensor:
        """Best quality after each evaluation, ``(evaluations,)``."""
        return self.quality.cummax(0).values

    def front(self) -> Tensor:
        """Numbers of the evaluations that no other one beats in both quality and size, smallest first."""
        order = np.lexsort([-self.quality.cpu().numpy(), self.size.cpu().numpy()])
        quality = self.quality.cpu()[torch.from_numpy(order)]
        before = torch.cat([quality.new_full((1,), -torch.inf), quality.cummax(0).values[:-1]])
        return torch.from_numpy(order)[quality > before]

    def hypervolume(self, size: int) -> float:
        """Share of the rectangle from R2 0 to 1 and from ``size`` to 0 parameters that is dominated (needs pymoo)."""
        hv = _library("pymoo.indicators.hv").HV(ref_point=np.ones(2))
        points = torch.stack([1 - self.quality.double(), self.size.double() / size], dim=1)
        return float(hv(points.cpu().numpy()))


class Objective:
    """Decodes latents, evaluates their networks on data, and keeps what it found.

    Args:
        decode: Decoder.
        x: Rows, ``(rows, inputs)``.
        y: Targets, ``(rows, outputs)``, standardised as the decoder's networks expect them.
        evaluations: Networks that may be evaluated.
    """

    def __init__(self, decode: Decode, x: Tensor, y: Tensor, evaluations: int) -> None:
        self.decode = decode
        self.x, self.y = x, y
        self.evaluations = evaluations
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def left(self) -> int:
        """Evaluations that are left."""
        return self.evaluations - sum(len(latents) for latents, _, _ in self.kept)

    def __call__(self, latents: Tensor) -> Tensor:
        """Quality and size of the networks of latents, ``(networks, 2)``; only as many as may be evaluated."""
        latents = latents[: self.left].detach()
        with torch.no_grad():
            return self.keep(latents, self.decode(latents))

    def keep(self, latents: Tensor, tokens: NeuronTokens) -> Tensor:
        """Evaluate networks of latents and keep the result."""
        x, y = (each.expand(len(latents), -1, -1) for each in (self.x, self.y))
        quality = task_r2(NeuronTokens(*(part.detach() for part in tokens)), x, y).nan_to_num(WORST).clamp(min=WORST)
        size = parameter_count(tokens)
        self.kept.append((latents.detach().clone(), quality, size))
        return torch.stack([quality, size.to(quality)], dim=1)

    def found(self) -> Found:
        """All that was evaluated."""
        return Found(*(torch.cat(parts) for parts in zip(*self.kept, strict=True)))


def parameter_count(tokens: NeuronTokens) -> Tensor:
    """Number of weights and biases of networks, ``(networks,)``."""
    weights = (tokens.edge & ((tokens.flags & WEIGHTED) > 0)[:, :, None]).sum((1, 2))
    return weights + (((tokens.flags & BIASED) > 0) & tokens.mask).sum(1)


def search(
    decode: Decode,
    x: Tensor,
    y: Tensor,
    latent: int,
    method: str = "nsga2",
    options: SearchOptions | None = None,
    draw: Draw | None = None,
) -> Found:
    """Search latents for networks of a high R2 on data, and few parameters.

    ``nsga2``: NSGA-II on both aims (Deb et al. 2002), by pymoo. ``cmaes``: CMA-ES on the R2 (Hansen 2016), by cmaes.
    ``gradient``: Adam on latents through decoder and networks, with a penalty that holds them near N(0, I).
    ``random``: latents from the prior, the baseline at equal evaluations. Each generation is one decoding.

    Args:
        decode: Decoder of latents on the device of ``x``; one that is bound to meta-features is ``partial(...)``.
        x: Rows of the data, ``(rows, inputs)``; test rows are not to be among them.
        y: Targets, ``(rows, outputs)``, standardised as the decoder's networks expect them.
        latent: Width of a latent.
        method: One of these.
        options: Options; none = their defaults.
        draw: Draws the first latents; none = from N(0, I).

    Raises:
        ValueError: There is no such method, the data have a wrong shape, or a package is missing.
    """
    options = options or SearchOptions()
    if method not in METHODS:
        raise ValueError(f"no search is called {method!r}{nearest(method, METHODS)}; all: {', '.join(METHODS)}")
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        shapes = tuple(x.shape), tuple(y.shape)
        raise ValueError(f"x and y must have the shapes (rows, inputs) and (rows, outputs), got {shapes}")
    source = Generator().manual_seed(options.seed)
    draw = draw or (lambda count: torch.randn(count, latent, generator=source).to(x))
    objective = Objective(decode, x, y, options.evaluations)
    METHODS[method](objective, options, draw)
    return objective.found()


def compare(searches: Sequence[str], run: Callable[[str], Found], size: int) -> dict[str, dict[str, float]]:
    """Run searches and, beside them, random search: best R2, and the hypervolume of R2 and size, of each.

    Args:
        searches: Names of methods.
        run: Runs a method, all with equal evaluations: ``partial(search, decode, x, y, latent)``, for example.
        size: Size at which a network is worth nothing.

    Raises:
        ValueError: They evaluated different numbers of networks.
    """
    found = {name: run(name) for name in dict.fromkeys([*searches, "random"])}
    counts = {name: len(each.quality) for name, each in found.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"searches must have equal evaluations, got {counts}")
    return {
        name: {"r2": float(each.quality.max()), "hypervolume": each.hypervolume(size)} for name, each in found.items()
    }


def _random(objective: Objective, options: SearchOptions, draw: Draw) -> None:
    while objective.left:
        objective(draw(options.population))


def _nsga2(objective: Objective, options: SearchOptions, draw: Draw) -> None:
    start = draw(options.population)
    like = partial(torch.as_tensor, dtype=start.dtype, device=start.device)
    problem = _library("pymoo.core.problem").Problem(n_var=start.shape[1], n_obj=2, xl=-options.bound, xu=options.bound)
    first = start.clamp(-options.bound, options.bound).double().cpu().numpy()
    algorithm = _library("pymoo.algorithms.moo.nsga2").NSGA2(pop_size=options.population, sampling=first)
    endless = _library("pymoo.core.termination").NoTermination()
    algorithm.setup(problem, termination=endless, seed=options.seed, verbose=False)
    while objective.left:
        asked = algorithm.ask()
        values = objective(like(asked.get("X")))
        if len(values) < len(asked):
            break
        asked.set("F", values.double().cpu().numpy() * [-1, 1])
        for each in asked:
            each.evaluated.add("F")
        algorithm.tell(infills=asked)


def _cmaes(objective: Objective, options: SearchOptions, draw: Draw) -> None:
    start = draw(max(options.population, 2))
    mean, sigma = start.mean(0).double().cpu().numpy(), float(start.std())
    optimizer = _library("cmaes").CMA(mean=mean, sigma=sigma, seed=options.seed, population_size=options.population)
    while objective.left:
        asked = np.stack([optimizer.ask() for _ in range(options.population)])
        values = objective(torch.as_tensor(asked, dtype=start.dtype, device=start.device))
        if len(values) < len(asked):
            break
        optimizer.tell(list(zip(asked, (-values[:, 0]).double().tolist(), strict=True)))


def _gradient(objective: Objective, options: SearchOptions, draw: Draw) -> None:
    latents = draw(min(options.population, objective.left)).detach().clone().requires_grad_()
    adam = torch.optim.Adam([latents], lr=options.lr)
    variance = (objective.y - objective.y.nanmean(0)).square().nansum()
    while objective.left:
        count = min(len(latents), objective.left)
        with torch.enable_grad():
            tokens = objective.decode(latents)
            if not tokens.weight.requires_grad:
                raise ValueError("the gradient method needs a decoder with gradients, got one without")
            outputs = execute(tokens, objective.x.nan_to_num(0.0).expand(len(latents), -1, -1)).outputs
            error = (outputs[..., : objective.y.shape[1]] - objective.y).square().nansum((1, 2)) / variance
            loss = error.nan_to_num(LARGEST_ERROR).clamp(max=LARGEST_ERROR)
            loss = (loss + options.penalty * latents.square().mean(1) / 2).sum()
        objective.keep(latents[:count], NeuronTokens(*(part[:count] for part in tokens)))
        (latents.grad,) = torch.autograd.grad(loss, latents)
        latents.grad.nan_to_num_(0.0, 0.0, 0.0)
        adam.step()


METHODS: dict[str, Callable[[Objective, SearchOptions, Draw], None]] = {
    "nsga2": _nsga2,
    "cmaes": _cmaes,
    "gradient": _gradient,
    "random": _random,
}
"""Search methods by name."""


def _library(module: str) -> Any:
    """Import a module of an optional package.

    Raises:
        ValueError: The package is missing.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as ex:
        raise ValueError(f"the package {ex.name} is missing: {remedy(ex.name)}") from ex
