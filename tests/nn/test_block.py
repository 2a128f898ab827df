"""Laws of the transformer block over one sequence: context and targets, KV cache, encoder and causal decoder."""

import pytest
import torch
from torch import nn

from tabattn.attention import MECHANISMS
from tabattn.nn.block import Block, Norm, row_block, table_block
from tabattn.nn.cache import KVCache
from tabattn.nn.rows import RowAttention

ORDERED = [name for name, mechanism in MECHANISMS.items() if mechanism.cross and mechanism.query_masks]
"""Mechanisms of a causal decoder: a query is one of many, and has a mask of its own."""


def block(mechanism: str, *, readout: bool = False, norm: Norm = "after") -> Block:
    made = row_block(12, 2, 16, attention=MECHANISMS[mechanism], readout=readout, norm=norm).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def key_mask() -> torch.Tensor:
    mask = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    mask[0, ..., 4:] = False
    mask[1, ..., 1] = False
    return mask


@pytest.mark.parametrize("norm", ["after", "before"])
@pytest.mark.parametrize("mask", [None, key_mask()], ids=["all", "some"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_readout_is_exact(mechanism: str, mask: torch.Tensor | None, norm: Norm) -> None:
    """A readout block computes less and gives the same: outputs, and gradients of its input."""
    full = block(mechanism, norm=norm)
    short = block(mechanism, readout=True, norm=norm)
    assert short.load_state_dict(full.state_dict(), strict=False).missing_keys == []
    short.rows.outsiders.load_state_dict(full.rows.outsiders.state_dict())
    x = torch.randn(2, 9, 12, requires_grad=True)
    outs = [full(x, 6, mask)[:, 6:], short(x, 6, mask)]
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-5)
    grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in outs]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["after", "before"])
@pytest.mark.parametrize("readout", [False, True])
@pytest.mark.parametrize("mask", [None, key_mask()], ids=["all", "some"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_prefill_and_decode_equal_one_pass(
    mechanism: str, mask: torch.Tensor | None, readout: bool, norm: Norm
) -> None:
    both, x, cache = block(mechanism, readout=readout, norm=norm), torch.randn(2, 9, 12), KVCache()
    known = both(x[:, :6], mask=mask, cache=cache)
    assert known.shape[1] == (0 if readout else 6)
    held = cache.tensors
    asked = both(x[:, 6:], 0, mask, cache)
    torch.testing.assert_close(torch.cat([known, asked], dim=1), both(x, 6, mask), rtol=1e-4, atol=1e-5)
    assert len(cache) == 6
    assert cache.tensors is held


def test_hidden_rows_change_nothing() -> None:
    rows, x = block("Softmax"), torch.randn(2, 9, 12)
    other = x.clone()
    other[0, 4:6], other[1, 1] = 7.0, 7.0
    shown = torch.cat([key_mask()[:, 0, 0], torch.ones(2, 3, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(rows(x, 6, key_mask())[shown], rows(other, 6, key_mask())[shown])


@pytest.mark.parametrize("readout", [False, True])
@pytest.mark.parametrize("norm", ["after", "before"])
@pytest.mark.parametrize("mechanism", ORDERED)
def test_decoded_rows_can_join_the_cache(mechanism: str, norm: Norm, readout: bool) -> None:
    rows, x = block(mechanism, norm=norm, readout=readout), torch.randn(2, 9, 12)
    caches = [KVCache(), KVCache()]
    for cache in caches:
        rows(x[:, :6], cache=cache)
    before = torch.ones(3, 8, dtype=torch.bool)
    before[0, 7] = False
    given = rows(x[:, 6:], 2, before, caches[0])
    assert [part.shape for part in caches[0].tensors] == [(2, 2, 8, 6)] * 2
    first = rows(x[:, 6:7], 1, cache=caches[1])
    rest = rows(x[:, 7:], 1, cache=caches[1])
    torch.testing.assert_close(given, torch.cat([first, rest], dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_rows_that_join_a_cache_are_answered_as_target_rows(mechanism: str) -> None:
    rows, x = block(mechanism), torch.randn(2, 8, 12)
    joined, whole = KVCache(), KVCache()
    rows(x[:, :6], cache=joined)
    rows(x, cache=whole)
    torch.testing.assert_close(rows(x[:, 6:], 2, cache=joined), rows(x[:, 6:], 0, cache=whole), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["after", "before"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_encoder_is_a_block_without_context(mechanism: str, norm: Norm) -> None:
    """By default every row attends to every row, by the mechanism between context rows: self-attention."""
    encoder, x = block(mechanism, norm=norm), torch.randn(2, 9, 12)
    assert isinstance(encoder.rows, RowAttention)
    read = encoder.norms[0](x) if norm == "before" else x
    mixed = x + encoder.rows.attention(read)
    if norm == "before":
        want = mixed + encoder.mlp(encoder.norms[1](mixed))
    else:
        mixed = encoder.norms[0](mixed)
        want = encoder.norms[1](mixed + encoder.mlp(mixed))
    torch.testing.assert_close(encoder(x), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(x, 9), encoder(x), rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["after", "before"])
@pytest.mark.parametrize("mechanism", ORDERED)
def test_a_causal_decoder_is_a_block_with_a_mask_for_each_query(mechanism: str, norm: Norm) -> None:
    """Later tokens change nothing, and one token at a time from a KV cache gives what one pass gives."""
    layers = [block(mechanism, norm=norm), block(mechanism, norm=norm)]
    x, caches = torch.randn(2, 7, 12), [KVCache(), KVCache()]
    mask = torch.ones(7, 7, dtype=torch.bool).tril()

    def whole(h: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            h = layer(h, mask=mask)
        return h

    other = x.clone()
    other[:, 5:] = 7.0
    torch.testing.assert_close(whole(other)[:, :5], whole(x)[:, :5], rtol=1e-4, atol=1e-5)
    tokens = [x[:, :3], *x[:, 3:].split(1, dim=1)]
    decoded = []
    for h in tokens:
        for layer, cache in zip(layers, caches, strict=True):
            h = layer(h, mask=mask[:3, :3] if h.shape[1] == 3 else None, cache=cache)
        decoded.append(h)
    torch.testing.assert_close(torch.cat(decoded, dim=1), whole(x), rtol=1e-4, atol=1e-5)


def test_a_mask_for_each_query_goes_to_context_and_to_targets() -> None:
    """Also where a target mechanism of its own answers the targets, and where only they are computed."""
    own = row_block(12, 2, 16, target_attention=MECHANISMS["Softmax"]).eval()
    one = row_block(12, 2, 16).eval()
    short = row_block(12, 2, 16, readout=True).eval()
    for other in (one, short):
        other.load_state_dict(own.state_dict())
    x, mask = torch.randn(2, 9, 12), torch.rand(2, 1, 9, 6) < 0.6
    torch.testing.assert_close(own(x, 6, mask), one(x, 6, mask))
    torch.testing.assert_close(short(x, 6, mask), one(x, 6, mask)[:, 6:])


def test_one_projection_of_keys_serves_the_cache_and_the_rows() -> None:
    rows, calls = block("Softmax"), []
    assert isinstance(rows.rows, RowAttention)
    project = rows.rows.attention.keys_values
    rows.rows.attention.keys_values = lambda x: calls.append(x.shape[1]) or project(x)  # type: ignore[assignment, func-returns-value]
    rows(torch.randn(2, 6, 12), cache=KVCache())
    assert calls == [6]


@pytest.mark.parametrize("context", [-1, 10])
def test_a_context_beyond_the_rows_is_refused(context: int) -> None:
    with pytest.raises(ValueError, match=rf"context must be between 0 and the number of rows \(9\), got {context}"):
        block("Softmax")(torch.randn(2, 9, 12), context)


def test_rows_of_another_batch_do_not_join_a_cache() -> None:
    rows, cache = block("Softmax"), KVCache()
    rows(torch.randn(2, 6, 12), cache=cache)
    with pytest.raises(ValueError, match=r"the KV cache holds .* \(2, 2, 6, 6\), got \(3, 2, 1, 6\)"):
        rows(torch.randn(3, 1, 12), cache=cache)
    assert len(cache) == 6
    assert cache.nbytes == 2 * 2 * 2 * 6 * 6 * 4


def test_what_a_block_puts_out_is_normalised() -> None:
    given = row_block(12, 2, 16)(10 * torch.randn(2, 9, 12), 6)
    torch.testing.assert_close(given.mean(-1), torch.zeros(2, 9), rtol=0, atol=1e-5)
    torch.testing.assert_close(given.std(-1, unbiased=False), torch.ones(2, 9), rtol=1e-3, atol=0)


def test_before_the_sum_stays_and_what_is_read_has_one_size() -> None:
    rows, x = block("Softmax", norm="before"), torch.randn(2, 9, 12)
    mixed = rows.rows(rows.norms[0](x), 6)
    torch.testing.assert_close(rows(x, 6), x + mixed + rows.mlp(rows.norms[1](x + mixed)))
    read = rows.rows(rows.norms[0](100 * x + 7), 6)
    torch.testing.assert_close(read, mixed, rtol=1e-3, atol=1e-3)


def test_a_norm_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="norm must be after or before, got 'pre'"):
        block("Softmax", norm="pre")


def test_dropout_acts_on_what_sublayers_add_and_in_training_alone() -> None:
    torch.manual_seed(0)
    block = table_block(8, 2, 16, dropout=0.5)
    for weight in block.parameters():
        nn.init.normal_(weight)
    x = torch.randn(1, 4, 3, 8)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))
