"""Laws of the table block and of the projections."""

from typing import Any

import pytest
import torch
from torch import nn

from tabattn.attention import MECHANISMS, Local, Softmax
from tabattn.nn.block import table_block
from tabattn.nn.cache import KVCache
from tabattn.nn.multihead import MultiheadAttention
from tabattn.nn.rows import RowAttention
from tabattn.prior.nanotabpfn import nano_block


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kind", [table_block, nano_block])
def test_readout_is_exact(mechanism: str, kind: Any) -> None:
    """A readout block computes less and gives the same: outputs, and gradients of its input."""
    made = {"attention": MECHANISMS[mechanism], "feature_attention": MECHANISMS[mechanism]}
    full = kind(12, 2, 16, **made).eval()
    for parameter in full.parameters():
        nn.init.normal_(parameter, std=0.3)
    short = kind(12, 2, 16, **made, readout=True).eval()
    missing = short.load_state_dict(full.state_dict(), strict=False).missing_keys
    assert missing == []
    x = torch.randn(2, 9, 4, 12, requires_grad=True)
    grads = []
    outs = []
    for block in (full, short):
        outs.append(block(x, 6)[:, -3:, -1:])
        grads.append(torch.autograd.grad(outs[-1].square().sum(), x)[0])
    assert outs[1].shape == (2, 3, 1, 12)
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("summaries", "all_rows"), [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_readout_is_exact_where_rows_attend_first(mechanism: str, summaries: int, all_rows: bool) -> None:
    """It puts out the last column or the summaries, of the target rows or of all."""
    made: dict[str, Any] = {"attention": MECHANISMS[mechanism], "feature_attention": MECHANISMS[mechanism]}
    made |= {"order": "rows", "summaries": summaries}
    full = table_block(12, 2, 16, **made).eval()
    for parameter in full.parameters():
        nn.init.normal_(parameter, std=0.3)
    short = table_block(12, 2, 16, **made, readout=True, all_rows=all_rows).eval()
    assert short.load_state_dict(full.state_dict(), strict=False).missing_keys == []
    if not all_rows and full.rows.outsiders is not short.rows.outsiders:
        short.rows.outsiders.load_state_dict(full.rows.outsiders.state_dict())
    x = torch.randn(2, 9, 4, 12)
    want = full(x, 6)[:, 0 if all_rows else 6 :, :2] if summaries else full(x, 6)[:, 6:, -1:]
    torch.testing.assert_close(short(x, 6), want, rtol=1e-4, atol=1e-5)


def test_summaries_do_not_attend_between_rows() -> None:
    block = table_block(12, 2, 16, order="rows", summaries=1)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 5, 3, 12)
    other = x.clone()
    other[:, 0, 0] += 1.0
    given, changed = block(x, 4), block(other, 4)
    torch.testing.assert_close(given[:, 1:], changed[:, 1:], rtol=0, atol=0)
    assert (given[:, 0] - changed[:, 0]).abs().amin(-1).max() > 1e-4


@pytest.mark.parametrize("kind", [table_block, nano_block])
def test_masks_of_rows_and_of_columns_go_together(kind: Any) -> None:
    """A hidden row is as if it were not there, in every column; so is a hidden column, in every row."""
    block = kind(12, 2, 16, Softmax, Softmax).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 6, 4, 12)
    rows = torch.ones(2, 1, 1, 4, dtype=torch.bool)
    rows[1, ..., 2] = False
    columns = torch.tensor([[True] * 4, [True, False, True, True]])
    given = block(x, 4, rows, columns=columns)
    torch.testing.assert_close(given[:1], block(x[:1], 4))
    left = block(x[1:, [0, 1, 3, 4, 5]][:, :, [0, 2, 3]], 3)
    torch.testing.assert_close(given[1:, [0, 1, 3, 4, 5]][:, :, [0, 2, 3]], left)


@pytest.mark.parametrize("readout", [False, True])
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kind", [table_block, nano_block])
def test_prefill_and_decode_equal_one_pass(mechanism: str, kind: Any, readout: bool) -> None:
    block = kind(12, 2, 16, MECHANISMS[mechanism], Softmax, readout=readout).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, cache = torch.randn(2, 9, 4, 12), KVCache()
    known = block(x[:, :6], cache=cache)
    asked = block(x[:, 6:], 0, cache=cache)
    torch.testing.assert_close(torch.cat([known, asked], dim=1), block(x, 6), rtol=1e-4, atol=1e-5)
    assert (len(cache), len(cache.tensors[0])) == (6, 2 * (1 if readout else 4))


def test_a_second_context_is_refused_where_the_cache_lacks_what_it_reads() -> None:
    block, cache = nano_block(12, 2, 16, Softmax, Softmax), KVCache()
    block(torch.randn(2, 6, 4, 12), cache=cache)
    with pytest.raises(ValueError, match="prefills a context in one call: the KV cache has 6 rows already"):
        block(torch.randn(2, 1, 4, 12), cache=cache)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "both"}, "order must be columns or rows, got 'both'"),
        ({"summaries": 2}, "summaries must be 0 with order columns, got 2"),
    ],
)
def test_bad_orders_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_block(12, 2, 16, **arguments)


def test_fused_projections_equal_torchs_attention() -> None:
    """Outputs and gradients equal ``nn.MultiheadAttention`` with the same weights, for self and cross attention."""
    ours, theirs = MultiheadAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x, context = torch.randn(2, 5, 12, requires_grad=True), torch.randn(2, 7, 12, requires_grad=True)
    for keys in (x, context):
        mine = ours(x) if keys is x else ours(x, keys)
        other = theirs(x, keys, keys, need_weights=False)[0]
        torch.testing.assert_close(mine, other)
        for a, b in zip(
            torch.autograd.grad(mine.square().sum(), (x, keys)),
            torch.autograd.grad(other.square().sum(), (x, keys)),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_target_rows_get_softmax_where_the_mechanism_cannot_answer_them() -> None:
    block = table_block(12, 2, 16, attention=Local)
    assert isinstance(block.rows, RowAttention)
    assert [type(m).__name__ for m in (block.rows.attention.mechanism, block.rows.outside)] == ["Local", "Softmax"]


@pytest.mark.parametrize(("dim", "heads"), [(12, 5), (12, 0)])
def test_bad_heads_are_refused(dim: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"dim must be a multiple of heads, got dim {dim} and heads {heads}"):
        MultiheadAttention(dim, heads)
