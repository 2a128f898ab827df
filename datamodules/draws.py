"""Random scalars from a torch generator."""

import math

import torch
from torch import Generator


def uniform(low: float, high: float, generator: Generator) -> float:
    """Uniform number between two bounds."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def chance(probability: float, generator: Generator) -> bool:
    """Bernoulli draw; with probability 0 nothing is drawn, so that the stream of other draws stays the same."""
    return probability > 0 and uniform(0, 1, generator) < probability


def log_uniform(low: float, high: float, generator: Generator) -> float:
    """Log-uniform number between two positive bounds."""
    return math.exp(uniform(math.log(low), math.log(high), generator))


def integer(low: int, high: int, generator: Generator) -> int:
    """Uniform integer between two bounds, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def log_integer(low: int, high: int, generator: Generator) -> int:
    """Log-uniform integer between two positive bounds, both included."""
    return min(high, int(log_uniform(low, high + 1, generator)))
