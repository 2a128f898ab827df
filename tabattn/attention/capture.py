"""Attention capture: forward hooks that record maps, queries, keys and values of every mechanism in a model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tabattn.attention.mechanism import Mechanism
from tabattn.attention.scores import four_dimensional

_capturing: ContextVar[frozenset["_Recorder"]] = ContextVar("capturing", default=frozenset())
"""Recorders of the current thread or asynchronous task; hooks also run for calls by other threads."""

_looking: ContextVar[bool] = ContextVar("looking", default=False)
"""Whether a map is being computed, so that the mechanism's calls for it are not recorded."""


class Record(NamedTuple):
    """Record of one call of a mechanism: CPU tensors; None for a field that was not kept.

    Attributes:
        weights: Attention map that was applied, ``(batch, heads, queries, keys)``, without dropout.
        q: Queries, ``(batch, heads, queries, head_dim)``.
        k: Keys, ``(batch, heads, keys, head_dim)``.
        mask: The mask, four-dimensional; True = may be seen.
        v: Values, ``(batch, heads, keys, any)``.
    """

    weights: Tensor | None = None
    q: Tensor | None = None
    k: Tensor | None = None
    mask: Tensor | None = None
    v: Tensor | None = None


@contextmanager
def capture(
    model: nn.Module, keep: Sequence[str] = ("weights",), items: int | Mapping[str, Sequence[int]] | None = 8
) -> Iterator[dict[str, list[Record]]]:
    """Record every call of every mechanism in a model inside this context; outputs stay bit-identical.

    Only calls by the thread or asynchronous task that entered the context are recorded, so that several may capture one
    model at a time. Parts compiled in place (``nn.Module.compile``) run uncompiled meanwhile, in all threads. What
    ``torch.compile`` returns runs without hooks: capture the module that was compiled.

    Args:
        model: Module that holds mechanisms.
        keep: Which fields of ``Record`` to keep.
        items: How many leading elements of the batch of each call to record, or by module path the numbers of the
            elements to record, of these mechanisms alone. None = all.

    Yields:
        Records in order of the calls, by module path.

    Raises:
        ValueError: If ``keep`` names an unknown field, ``items`` is below 1 or names no mechanism of the model, or the
            model holds no mechanism.
    """
    unknown = sorted(set(keep) - set(Record._fields))
    if unknown:
        raise ValueError(f"keep must name some of {', '.join(Record._fields)}, got {', '.join(unknown)}")
    if isinstance(items, int) and items < 1:
        raise ValueError(f"items must be at least 1 or None, got {items}")
    mechanisms = {path: module for path, module in model.named_modules() if isinstance(module, Mechanism)}
    if not mechanisms:
        raise ValueError(f"{type(model).__name__} holds no attention mechanism to capture")
    if isinstance(items, Mapping) and (foreign := sorted(set(items) - set(mechanisms))):
        raise ValueError(f"items must name mechanisms of {type(model).__name__}, got {', '.join(foreign)}")
    chosen = {
        path: list(items[path]) if isinstance(items, Mapping) else slice(items)
        for path in (items if isinstance(items, Mapping) else mechanisms)
    }
    records: dict[str, list[Record]] = {path: [] for path in chosen}
    recorder = _Recorder(frozenset(keep))
    hooks = [
        mechanisms[path].register_forward_hook(recorder.hook(records[path], part), with_kwargs=True)
        for path, part in chosen.items()
    ]
    _capturing.set(_capturing.get() | {recorder})
    compiled = any(module._compiled_call_impl is not None for module in model.modules())
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield records
    finally:
        _capturing.set(_capturing.get() - {recorder})
        for hook in hooks:
            hook.remove()


class _Recorder:
    def __init__(self, keep: frozenset[str]) -> None:
        self.keep = keep

    def hook(self, records: list[Record], items: slice | list[int]) -> Any:
        """Return a forward hook that appends to ``records``, of these elements of the batch."""

        def record(module: Mechanism, args: tuple[Any, ...], *rest: Any) -> None:
            # A hook that another thread is just removing is called without keyword arguments: nothing to record.
            if self not in _capturing.get() or _looking.get():
                return
            kwargs, _ = rest
            token = _looking.set(True)
            try:
                given = dict(zip(("q", "k", "v", "mask"), args, strict=False))
                records.append(self.look(module, items, **given, **kwargs))
            finally:
                _looking.reset(token)

        return record

    def look(
        self,
        module: Mechanism,
        items: slice | list[int],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
    ) -> Record:
        """Build the record of one call."""
        q, k, v = q[items], k[items], v[items]
        if mask is not None:
            mask = four_dimensional(mask)
            mask = mask if mask.shape[0] == 1 else mask[items]
        seen = {"q": q, "k": k, "mask": mask, "v": v}
        if "weights" in self.keep:
            seen["weights"] = module.weights(q, k, mask)
        return Record(**{name: _copy(value) for name, value in seen.items() if name in self.keep})


def _copy(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().to("cpu", copy=True)
