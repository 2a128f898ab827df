"""Memory of a training: free memory that the C library keeps is returned to the system."""

import ctypes
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

MOST_UNUSED = 2**29
"""Bytes of free memory that a training keeps for its next step."""


class _Counts(ctypes.Structure):
    """``struct mallinfo2`` of glibc."""

    _fields_ = (
        *((f"other{number}", ctypes.c_size_t) for number in range(8)),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


class HeapRelease(Callback):
    """Callback that returns free memory to the system after some steps, where the C library keeps much of it.

    Batches of many shapes leave its heap in pieces: tensors of up to 32 MB are kept when they are freed, and what does
    not fit into the pieces is allocated beside them. So the memory of a process would grow to several times that of its
    largest step. Numbers are not changed. Nothing happens without glibc (Linux), the only C library
    that is asked.

    Args:
        every: Steps from one release to the next, as pages that are used again cost time: a fifth of a step.
    """

    def __init__(self, every: int = 16) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % self.every == self.every - 1:
            release_heap()


def release_heap(most: int = MOST_UNUSED) -> bool:
    """Return free memory to the system if more than ``most`` bytes are kept; return whether it was done."""
    if unused_heap() <= most:
        return False
    _LIBRARY.malloc_trim(0)
    return True


def unused_heap() -> int:
    """Bytes of free memory that the C library keeps, in memory or returned; 0 where it cannot say."""
    return int(_LIBRARY.mallinfo2().fordblks) if _LIBRARY is not None else 0


def _library() -> Any:
    """The C library, if it is glibc 2.33 or later."""
    try:
        library: Any = ctypes.CDLL(None)
        library.mallinfo2.restype = _Counts
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError, TypeError):
        return None
    return library


_LIBRARY = _library()
