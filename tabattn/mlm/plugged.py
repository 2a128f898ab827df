"""Mechanisms in the place of the attention of a model of ``transformers``."""

import importlib
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory
from tabattn.contract.errors import DataError
from tabattn.contract.extras import remedy

NAME = "tabattn"
"""Under which our attention and our masks are registered."""

_found: ContextVar[dict[nn.Module, tuple[int, int]] | None] = ContextVar("found", default=None)
"""Heads and width of a head of each attention layer, while they are looked for."""


@cache
def transformers() -> Any:
    """Import ``transformers``, and register our attention and our masks with it.

    Raises:
        DataError: It is not installed, or too old.
    """
    try:
        found = importlib.import_module("transformers")
        found.AttentionInterface.register(NAME, attend)
        # Without this no mask at all would arrive, and padding would be attended to.
        found.AttentionMaskInterface.register(NAME, visible)
    except (ImportError, AttributeError) as ex:
        raise DataError(f"masked language models need transformers 5 ({ex}): {remedy('transformers')}") from ex
    return found


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention function of ``transformers``: calls the mechanism of a layer.

    Args:
        module: The layer's attention, which holds the mechanism.
        query: ``(batch, heads, queries, head_dim)``.
        key: ``(batch, heads, keys, head_dim)``.
        value: ``(batch, heads, keys, head_dim)``.
        attention_mask: Boolean, broadcastable to ``(batch, heads, queries, keys)``; True = may be seen.
        scaling: Factor on the scores; None = that of the mechanism.
    """
    if (found := _found.get()) is not None:
        if key.shape[1] != query.shape[1]:
            raise ValueError(
                f"{type(module).__name__} has {query.shape[1]} heads of queries and {key.shape[1]} of keys"
            )
        found[module] = query.shape[1], query.shape[3]
        return value.transpose(1, 2).contiguous(), None
    mechanism: Any = module.mechanism
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        raise ValueError(f"attention_mask must be boolean, with True = may be seen, got {attention_mask.dtype}")
    if scaling is not None and scaling != mechanism.scale:
        query = query * (scaling / mechanism.scale)
    out: Tensor = mechanism(query, key, value, attention_mask)
    return out.transpose(1, 2).contiguous(), None


def visible(
    *,
    attention_mask: Tensor | None = None,
    mask_function: Any = None,
    q_length: int,
    kv_length: int,
    **more: Any,
) -> Tensor | None:
    """Mask function of ``transformers``: which keys may be seen.

    Where that is the same for all queries, there is no row for each of them: mechanisms that summarise the keys need
    that, and others save memory.

    Returns:
        Boolean, ``(batch, 1, 1 or queries, keys)``; None = all.
    """
    parts: Any = importlib.import_module("transformers.masking_utils")
    if mask_function is not parts.bidirectional_mask_function or more.get("use_vmap"):
        more |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        given = {"attention_mask": attention_mask, "mask_function": mask_function}
        seen: Tensor = parts.sdpa_mask(q_length=q_length, kv_length=kv_length, **given, **more)
        return seen
    return None if attention_mask is None else attention_mask[:, None, None, :kv_length].bool()


def plug(model: nn.Module, attention: AttentionFactory) -> None:
    """Give each attention layer of a model its own mechanism, as the submodule ``mechanism``.

    The layers are found by a forward pass of two tokens, so that any architecture serves whose layers take their
    attention from ``transformers.AttentionInterface``.

    Args:
        model: Made with ``attn_implementation=NAME``.
        attention: Makes the mechanisms.

    Raises:
        ValueError: No layer takes its attention from there, or one has fewer heads for keys than for queries.
    """
    training = model.training
    found: dict[nn.Module, tuple[int, int]] = {}
    token = _found.set(found)
    try:
        with torch.no_grad():
            model.eval()(input_ids=torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device))
    finally:
        _found.reset(token)
        model.train(training)
    if not found:
        raise ValueError(f"{type(model).__name__} does not take its attention from transformers.AttentionInterface")
    for module, (heads, head_dim) in found.items():
        module.mechanism = attention(heads, head_dim)
