"""Laws of every mechanism on a GPU."""

import pytest
import torch

from tabattn.attention.fused import CUDA_BATCH_LIMIT
from tests.attention.cases import CASES, gradients, inputs, leaves, make

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
close = torch.testing.assert_close


def pair(case, **sizes):
    torch.manual_seed(0)
    mechanism = make(case)
    x = leaves(inputs(case, **sizes))
    return mechanism, x, make(case).cuda(), leaves(type(x)(*(part.cuda() for part in x)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [3, CUDA_BATCH_LIMIT + 5])
def test_equals_the_cpu_for_any_batch(case, batch):
    cpu, x, gpu, y = pair(case, batch=batch, queries=5, keys=7)
    gpu.load_state_dict(cpu.state_dict())
    mask = torch.rand(batch, 1, 1, 7) > 0.2
    want, got = cpu(*x, mask), gpu(*y, mask.cuda())
    close(got.cpu(), want, atol=1e-4, rtol=1e-4)
    wanted = torch.autograd.grad(want.square().sum(), x, allow_unused=True, materialize_grads=True)
    for ours, theirs in zip(
        torch.autograd.grad(got.square().sum(), y, allow_unused=True, materialize_grads=True), wanted, strict=True
    ):
        close(ours.cpu(), theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("half", [False, True])
def test_queries_that_may_see_nothing_yield_zeros(case, half):
    _, _, gpu, y = pair(case, queries=11)
    masks = [torch.tensor([True, False], device="cuda")[:, None, None, None].expand(2, 1, 1, 11)]
    if gpu.query_masks:
        masks.append((torch.arange(11, device="cuda") != 3)[:, None].expand(11, 11))
    for mask in masks:
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
            out = gpu(*(part.bfloat16() if half else part for part in y), mask)
        blind = ~mask.any(-1).expand(out.shape[:3])
        assert out[blind].eq(0).all()
        assert out[~blind].ne(0).any()
        assert out.isfinite().all()
        grads = torch.autograd.grad(out.float().sum(), y, allow_unused=True, materialize_grads=True)
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("case", CASES)
def test_hidden_keys_have_no_weight(case):
    cpu, x, gpu, y = pair(case)
    gpu.load_state_dict(cpu.state_dict())
    mask = torch.arange(11) % 4 != 1
    close(gpu.weights(y.q, y.k, mask.cuda()).cpu(), cpu.weights(x.q, x.k, mask), atol=1e-5, rtol=1e-4)
    assert all(grad.isfinite().all() for grad in gradients(gpu(*y, mask.cuda()).cpu(), *y))
