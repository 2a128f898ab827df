"""Choice of a kernel for entmax attention on a GPU: what it needs, and a trial against plain torch operations."""

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from tabattn.attention.entmax_rows import EntmaxRows
from tabattn.attention.scores import full_precision

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function of q, k, v that returns the mixed values."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32)

CAPABILITY = (8, 0)
"""Least compute capability."""

TRIAL = 256
"""Tokens of a trial."""

NEAR = {torch.float32: 1e-4}
"""Largest relative difference of a trial by precision; 2 % in half precision."""

_tried: dict[object, bool] = {}


def possible(kernel: str, name: str, lacks: str | None) -> bool:
    """Whether a kernel is wanted for a call, and can compute it.

    Args:
        kernel: ``auto``, or a kernel's name.
        name: Name of the kernel.
        lacks: What it needs that this call does not have; None = nothing.

    Raises:
        ValueError: The kernel is asked for by its name and lacks something.
    """
    if kernel == name and lacks is not None:
        raise ValueError(f"{name} needs {lacks}")
    return kernel in (name, "auto") and lacks is None


def gpu_lacks(q: Tensor, package: str) -> str | None:
    """What a kernel on GPUs, of a package, needs and a call with these queries does not have; None = nothing."""
    if q.device.type != "cuda":
        return f"a CUDA device, got {q.device.type}"
    if torch.compiler.is_compiling():
        return "eager execution, got torch.compile"
    if not _installed(package):
        return f"the package {package}, which is not installed"
    capability = torch.cuda.get_device_capability(q.device)
    if capability < CAPABILITY:
        return f"compute capability {CAPABILITY[0]}.{CAPABILITY[1]} or above, got {capability[0]}.{capability[1]}"
    if q.dtype not in DTYPES:
        return f"float16, bfloat16 or float32, got {q.dtype}"
    return None if q.numel() else "at least one query, got none"


@cache
def _installed(package: str) -> bool:
    return find_spec(package) is not None


def plain_entmax(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor | float, mask: Tensor | None) -> Tensor:
    """Alpha-entmax attention by plain torch operations, ``(batch, heads, queries, any)``, in at least float32."""
    q, k, v = full_precision(q) * q.shape[-1] ** -0.5, full_precision(k), full_precision(v)
    out: Tensor = EntmaxRows.apply(q, k, v, alpha, mask, TRIAL, 0.0, 0)  # type: ignore[no-untyped-call]
    return out


def agrees(name: str, q: Tensor, functions: Callable[[], tuple[Attend, Attend]], *own: object) -> bool:
    """Trial of a kernel, once for each device, precision and width, against torch operations, with gradients.

    A kernel that fails or differs is not used, with a warning.

    Args:
        name: Name of the kernel.
        q: Queries of a call, for the device, the precision, the heads and the width.
        functions: Makes the kernel, and the same function by torch operations.
        own: What else makes kernels differ.
    """
    key = (name, q.device, q.dtype, q.shape[1], q.shape[3], *own)
    if key not in _tried:
        if q.is_cuda and torch.cuda.is_current_stream_capturing():
            return False
        try:
            difference, reason = _difference(q, *functions()), ""
        except Exception as ex:  # Whatever a compiler raises; the torch operations compute the same.
            difference, reason = float("inf"), f": {type(ex).__name__}: {ex}"
        near = NEAR.get(q.dtype, 0.02)
        _tried[key] = difference <= near
        if not _tried[key]:
            reason = reason or f": it differs by {difference:.1e}, more than {near:g}"
            warnings.warn(f"{name} is not used for {q.dtype} and head_dim {q.shape[3]}{reason}", stacklevel=2)
    return _tried[key]


def _difference(q: Tensor, fused: Attend, plain: Attend) -> float:
    """Largest relative difference of two functions, by norms of outputs and gradients, on drawn numbers."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, 1, q.shape[1], TRIAL, q.shape[3])
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(q.device.type, enabled=False):
        *x, weight = torch.randn(shape, generator=generator).to(q.device, q.dtype).unbind()
        x = [part.clone().requires_grad_() for part in x]
        results = []
        for attend in (fused, plain):
            out = attend(*x).to(q.dtype)
            results.append([out.detach(), *torch.autograd.grad((out * weight).sum(), x)])
        pairs = [(ours.float(), theirs.float()) for ours, theirs in zip(*results, strict=True)]
        return float(torch.stack([(ours - theirs).norm() / theirs.norm() for ours, theirs in pairs]).max())
