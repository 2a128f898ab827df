"""Attention capture: forward hooks that record the maps, queries and keys of every mechanism in a model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

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
    """

    weights: Tensor | None = None
    q: Tensor | None = None
    k: Tensor | None = None
    mask: Tensor | None = None


@contextmanager
def capture(
    model: nn.Module, keep: Sequence[str] = ("weights",), items: int | None = 8
) -> Iterator[dict[str, list[Record]]]:
    """Record every call of every mechanism in a model inside this context; outputs stay bit-identical.

    Only calls by the thread or asynchronous task that entered the context are recorded, so that several may capture one
    model at a time. A model compiled before it is captured runs without hooks: capture the module that was compiled.

    Args:
        model: Module that holds mechanisms.
        keep: Which fields of ``Record`` to keep.
        items: How many leading elements of the batch of each call to record. None = all.

    Yields:
        Records in order of the calls, by module path.

    Raises:
        ValueError: If ``keep`` names an unknown field, ``items`` is below 1 or the model holds no mechanism.
    """
    unknown = sorted(set(keep) - set(Record._fields))
    if unknown:
        raise ValueError(f"keep must name some of {', '.join(Record._fields)}, got {', '.join(unknown)}")
    if items is not None and items < 1:
        raise ValueError(f"items must be at least 1 or None, got {items}")
    mechanisms = {path: module for path, module in model.named_modules() if isinstance(module, Mechanism)}
    if not mechanisms:
        raise ValueError(f"{type(model).__name__} holds no attention mechanism to capture")
    records: dict[str, list[Record]] = {path: [] for path in mechanisms}
    recorder = _Recorder(frozenset(keep), items)
    hooks = [
        mechanism.register_forward_hook(recorder.hook(records[path]), with_kwargs=True)
        for path, mechanism in mechanisms.items()
    ]
    _capturing.set(_capturing.get() | {recorder})
    try:
        yield records
    finally:
        _capturing.set(_capturing.get() - {recorder})
        for hook in hooks:
            hook.remove()


class _Recorder:
    def __init__(self, keep: frozenset[str], items: int | None) -> None:
        self.keep = keep
        self.items = items

    def hook(self, records: list[Record]) -> Any:
        """Return a forward hook that appends to ``records``."""

        def record(module: Mechanism, args: tuple[Any, ...], *rest: Any) -> None:
            # A hook that another thread is just removing is called without keyword arguments: nothing to record.
            if self not in _capturing.get() or _looking.get():
                return
            kwargs, _ = rest
            token = _looking.set(True)
            try:
                records.append(self.look(module, **dict(zip(("q", "k", "v", "mask"), args, strict=False)), **kwargs))
            finally:
                _looking.reset(token)

        return record

    def look(self, module: Mechanism, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Record:
        """Build the record of one call."""
        q, k = q[: self.items], k[: self.items]
        if mask is not None:
            mask = four_dimensional(mask)
            mask = mask if mask.shape[0] == 1 else mask[: self.items]
        seen = {"q": q, "k": k, "mask": mask}
        if "weights" in self.keep:
            seen["weights"] = module.weights(q, k, mask)
        return Record(**{name: _copy(value) for name, value in seen.items() if name in self.keep})


def _copy(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().to("cpu", copy=True)
