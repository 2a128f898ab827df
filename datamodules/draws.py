"""Single numbers drawn from a generator."""

import math

import torch
from torch import Generator


def uniform(low: float, high: float, generator: Generator) -> float:
    """One number between two bounds."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def chance(probability: float, generator: Generator) -> bool:
    """True with a probability; with probability 0 nothing is drawn, so that other draws stay what they were."""
    return probability > 0 and uniform(0, 1, generator) < probability


def log_uniform(low: float, high: float, generator: Generator) -> float:
    """One number between two positive bounds, uniform in its logarithm."""
    return math.exp(uniform(math.log(low), math.log(high), generator))


def integer(low: int, high: int, generator: Generator) -> int:
    """One whole number between two bounds, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def log_integer(low: int, high: int, generator: Generator) -> int:
    """One whole number between two positive bounds, both included, small ones likelier."""
    return min(high, int(log_uniform(low, high + 1, generator)))
