"""Abstract base class of attention mechanisms, and checks of their arguments."""

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

KEYS_AT_ONCE = 1024
"""Most columns of a map that are computed in one pass, which bounds its memory."""


class Mechanism(nn.Module, ABC):
    """Abstract attention mechanism: mixes values by queries and keys, without projections.

    Shapes, everywhere: q ``(batch, heads, queries, head_dim)``, k ``(batch, heads, keys, head_dim)``,
    v ``(batch, heads, keys, any)``, out ``(batch, heads, queries, any)``. A mask is boolean, broadcastable to
    ``(batch, heads, queries, keys)``, and True means "may be seen". A query that may see nothing yields zeros.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
    """

    cross: ClassVar[bool] = True
    """Whether cross-attention is possible: queries that are not among the tokens attend to the *set* of (key, value)
    pairs, whose order and the other queries do not matter."""

    query_masks: ClassVar[bool] = True
    """Whether a mask may have a row for each query. If not, keys are summarised independently of the queries, and the
    mask must be the same for all queries."""

    reads_keys: ClassVar[bool] = True
    """Whether the output depends on keys and values, so that the attention map is one over the keys."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        check_at_least(1, heads=heads, head_dim=head_dim)
        self.heads = heads
        self.head_dim = head_dim
        self.scale = head_dim**-0.5

    @abstractmethod
    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the values by attention.

        Args:
            q: Queries, ``(batch, heads, queries, head_dim)``.
            k: Keys, ``(batch, heads, keys, head_dim)``.
            v: Values, ``(batch, heads, keys, any)``.
            mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``; True = may be seen.

        Returns:
            The mixed values, ``(batch, heads, queries, any)``.
        """

    def arguments(self) -> dict[str, Any]:
        """Constructor arguments, by name, of an equal mechanism."""
        own = inspect.signature(type(self)).parameters.values()
        return {
            argument.name: getattr(self, argument.name) for argument in own if argument.kind is argument.KEYWORD_ONLY
        }

    @torch.no_grad()
    def weights(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention map that the mechanism applies, ``(batch, heads, queries, keys)``.

        A mechanism is linear in its values, so the identity as values yields its matrix. Costs queries x keys x keys,
        so it is meant for inspection, not for training. Dropout is off.
        """
        identity = torch.eye(k.shape[-2], dtype=k.dtype, device=k.device).expand(*k.shape[:2], -1, -1)
        parts = [_evaluating(self).forward(q, k, part, mask) for part in identity.split(KEYS_AT_ONCE, dim=-1)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _evaluating(module: nn.Module) -> Any:
    """Copy of a module in evaluation mode that shares its tensors; the module may be training in another thread."""
    view = copy.copy(module)
    view.training = False
    view._modules = {name: None if part is None else _evaluating(part) for name, part in module._modules.items()}
    return view


def with_attributes(mechanism: Mechanism, **values: Any) -> Mechanism:
    """Copy of a mechanism with other values of some attributes, which shares its tensors."""
    view = copy.copy(mechanism)
    vars(view).update(values)
    return view


AttentionFactory = Callable[[int, int], Mechanism]
"""Called with ``(heads, head_dim)``; a class, or a class with some of its own arguments filled in."""


def check_at_least(bound: int, **values: int) -> None:
    """Raise ValueError if a value, a keyword argument, is below the bound."""
    for name, value in values.items():
        if value < bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")


def check_same_length(mechanism: nn.Module, q: Tensor, k: Tensor) -> int:
    """Return the common length of queries and keys, or raise ValueError where they differ."""
    queries, keys = q.shape[-2], k.shape[-2]
    if queries != keys:
        name = type(mechanism).__name__
        raise ValueError(
            f"{name} compares positions, so queries and keys must have one length, got {queries} and {keys}"
        )
    return queries


def check_dropout(dropout: float) -> float:
    """Return the probability unchanged, or raise ValueError if it is not in [0, 1)."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    return dropout
