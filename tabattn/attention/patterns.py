"""Mask patterns: pure functions from sizes to boolean masks ``(queries, keys)``; True = may be seen."""

import torch
from torch import Tensor

Device = torch.device | str | None


def band(length: int, reach: int, device: Device = None) -> Tensor:
    """Banded mask: each position sees those at most ``reach`` away on either side.

    Args:
        length: Number of positions.
        reach: Largest visible distance; 0 leaves each position itself.
        device: Device of the mask.

    Returns:
        The mask, ``(length, length)`` boolean.

    Raises:
        ValueError: If a size is negative.
    """
    _check(length=length, reach=reach)
    return _distance(length, device) <= reach


def strided(length: int, stride: int, device: Device = None) -> Tensor:
    """Strided mask: each position sees those at a multiple of ``stride``; 1 = everything is visible.

    Args:
        length: Number of positions.
        stride: Distance between two visible positions.
        device: Device of the mask.

    Returns:
        The mask, ``(length, length)`` boolean.

    Raises:
        ValueError: If ``length`` is negative or ``stride`` is below 1.
    """
    _check(length=length)
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")
    return _distance(length, device) % stride == 0


def global_tokens(length: int, tokens: int, device: Device = None) -> Tensor:
    """Global-token mask: the first ``tokens`` positions see everything and are seen by everything.

    Args:
        length: Number of positions.
        tokens: How many leading positions are global; more than ``length`` shows everything.
        device: Device of the mask.

    Returns:
        The mask, ``(length, length)`` boolean.

    Raises:
        ValueError: If a size is negative.
    """
    _check(length=length, tokens=tokens)
    leading = torch.arange(length, device=device) < tokens
    return leading[:, None] | leading


def random(length: int, links: int, seed: int, device: Device = None) -> Tensor:
    """Random mask: each position sees ``links`` distinct positions drawn at random.

    Args:
        length: Number of positions.
        links: Visible positions in each row; more than ``length`` shows everything.
        seed: Seed of the draw; the same on every device.
        device: Device of the mask.

    Returns:
        The mask, ``(length, length)`` boolean.

    Raises:
        ValueError: If a size is negative.
    """
    _check(length=length, links=links)
    draws = torch.rand(length, length, generator=torch.Generator().manual_seed(seed))
    chosen = draws.topk(min(links, length), dim=-1).indices
    return torch.zeros(length, length, dtype=torch.bool).scatter_(1, chosen, True).to(device)


def _distance(length: int, device: Device) -> Tensor:
    position = torch.arange(length, device=device)
    return (position[:, None] - position).abs()


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"{name} must be at least 0, got {size}")
