"""KV cache: keys and values that one attention layer has computed, kept for queries to come."""

import torch
from torch import Tensor


class KVCache:
    """KV cache of one attention layer: the keys and values of the rows read so far, in their order.

    A cache is empty at first. A block that gets it appends the keys and values of its context rows and attends to all
    that the cache then holds, so the first call prefills it and later ones decode from it. ``len`` is the number of
    rows in it.

    Attributes:
        tensors: Keys and values, each ``(batch, heads, rows, head_dim)``; empty while the cache is.
    """

    def __init__(self) -> None:
        self.tensors: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return self.tensors[0].shape[2] if self.tensors else 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of further rows; tensors handed out before stay as they are.

        Args:
            keys: ``(batch, heads, rows, head_dim)``; may have no rows.
            values: Of the same shape.

        Returns:
            All keys and all values that the cache now holds.

        Raises:
            ValueError: The rows are of another batch size, number of heads or width than those in the cache.
        """
        if not self.tensors:
            self.tensors = keys, values
        elif keys.shape[2]:
            held = self.tensors[0]
            if keys.shape[:2] != held.shape[:2] or keys.shape[3] != held.shape[3]:
                raise ValueError(
                    f"the KV cache holds (batch, heads, rows, head_dim) {tuple(held.shape)}, got {tuple(keys.shape)}"
                )
            self.tensors = torch.cat([held, keys], dim=2), torch.cat([self.tensors[1], values], dim=2)
        return self.tensors[0], self.tensors[1]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)
