"""Reference attention kernels of other libraries: fused softmax, FlexAttention and AdaSplash."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function of q, k, v, each ``(batch, heads, length, head_dim)``; returns the mixed values, of the same shape."""
Build = Callable[[int, torch.device], Attend]
"""Function of a length and a device that builds a kernel."""

WINDOW = 8
"""Window to either side, the default of ``Local``."""
BLOCK = 128
"""Block size of FlexAttention's masks, in tokens."""


def fused(backend: SDPBackend, length: int, device: torch.device) -> Attend:
    """Softmax attention by one kernel of torch's ``scaled_dot_product_attention``."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v)

    return attend


def flex(window: int | None, length: int, device: torch.device) -> Attend:
    """FlexAttention, compiled on a GPU: softmax over all keys, or over those at most ``window`` away.

    On a CPU, where the compiled function has no backward pass, it is not compiled.
    """
    kernel: Callable[..., Any] = torch.compile(flex_attention) if device.type == "cuda" else flex_attention
    mask = None if window is None else window_mask(window, length, device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return kernel(q, k, v, block_mask=mask)

    return attend


def window_mask(window: int, length: int, device: torch.device) -> BlockMask:
    """Build the block mask of a sliding window block by block, without a matrix of length x length.

    Args:
        window: Largest visible distance.
        length: Number of tokens.
        device: Where to build it.

    Returns:
        A mask for any batch and any heads.
    """

    def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query - key).abs() <= window

    blocks = -(-length // BLOCK)
    index = torch.arange(blocks, device=device)
    # Two blocks interact if the last token of one is at most a window away from the first of the other.
    touching = (index[:, None] - index).abs() <= (window + BLOCK - 1) // BLOCK
    count = touching.sum(-1, dtype=torch.int32)
    order = touching.int().argsort(dim=-1, descending=True, stable=True).int()
    return BlockMask.from_kv_blocks(
        count[None, None], order[None, None], BLOCK_SIZE=BLOCK, mask_mod=near, seq_lengths=(length, length)
    )


def adasplash(length: int, device: torch.device) -> Attend:
    """Entmax attention of alpha 1.5 by AdaSplash's Triton kernel with a block mask (arXiv 2502.12082).

    Raises:
        ImportError: The package adasplash, extra ``gpu``, is not installed.
    """
    from adasplash import adasplash_v1

    return partial(adasplash_v1, alpha=1.5, is_causal=False)


class Reference(NamedTuple):
    """Reference kernel.

    Attributes:
        build: Builds the kernel; raises, or builds a kernel that raises, if device or environment lack it.
        equals: Mechanism that computes the same function with its default arguments.
    """

    build: Build
    equals: str


REFERENCES = {
    "SDPA math": Reference(partial(fused, SDPBackend.MATH), "Softmax"),
    "SDPA flash": Reference(partial(fused, SDPBackend.FLASH_ATTENTION), "Softmax"),
    "SDPA efficient": Reference(partial(fused, SDPBackend.EFFICIENT_ATTENTION), "Softmax"),
    "SDPA cuDNN": Reference(partial(fused, SDPBackend.CUDNN_ATTENTION), "Softmax"),
    "FlexAttention": Reference(partial(flex, None), "Softmax"),
    "FlexAttention window": Reference(partial(flex, WINDOW), "Local"),
    "AdaSplash": Reference(adasplash, "Entmax"),
}
"""Reference kernels by name."""
