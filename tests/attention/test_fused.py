import pytest
import torch

from tabattn.attention import Scratch
from tabattn.attention.fused import PADDED, attend, in_launches
from tests.attention.cases import HEAD_DIM, HEADS, Inputs, gradients, inputs, leaves

MASKS = {
    "none": lambda: None,
    "shared": lambda: (torch.rand(1, 1, 9, 11) > 0.4) & (torch.arange(9) != 3)[:, None],
    "own": lambda: (torch.rand(7, HEADS, 9, 11) > 0.4) & (torch.arange(7) != 5)[:, None, None, None],
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_batches_split_over_launches_equal_one_launch(mask, limit):
    torch.manual_seed(0)
    x = leaves(inputs("Softmax", batch=7))
    seen = MASKS[mask]()
    want = Scratch(HEADS, HEAD_DIM)(*x, seen)
    wanted = gradients(want, *x)
    for got in (in_launches(*x, seen, 0.0, limit), attend(*x, seen)):
        torch.testing.assert_close(got, want)
        for ours, theirs in zip(gradients(got, *x), wanted, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert in_launches(*(part[:0] for part in x), None, 0.0, limit).shape == (0, HEADS, 9, HEAD_DIM)


@pytest.mark.parametrize(("keys", "allowed"), [(8, False), (4095, False), (4096, True)])
def test_cudnn_is_used_for_many_keys_only(keys, allowed, monkeypatch):
    seen = []

    def attention(q, k, v, mask, dropout_p):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return v[:, :, : q.shape[2]]

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", attention)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    q, k = torch.randn(1, 2, 3, 8), torch.randn(1, 2, keys, 8)
    in_launches(q, k, k, None, 0.0, 10)
    assert seen == [allowed and before]
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


@pytest.mark.parametrize("keys", [PADDED - 1, PADDED])
@pytest.mark.parametrize("masked", [False, True])
def test_values_narrower_than_queries_are_mixed_alike_at_any_length(keys, masked):
    x = leaves(Inputs(*(torch.randn(2, HEADS, n, width) for n, width in ((9, 12), (keys, 12), (keys, HEAD_DIM)))))
    seen = (torch.rand(2, 1, 9, keys) > 0.4) & (torch.arange(9) != 3)[:, None] if masked else None
    got, want = attend(*x, seen), Scratch(HEADS, 12)(*x, seen)
    torch.testing.assert_close(got, want)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_memory_with_narrow_values_is_linear_in_length():
    def saved(length):
        q, k, v = (torch.randn(1, HEADS, length, width, requires_grad=True) for width in (12, 12, HEAD_DIM))
        sizes = {}

        def note(x):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            out = attend(q, k, v)
        assert out.requires_grad
        return sum(sizes.values())

    assert saved(1024) / saved(512) < 2.1
