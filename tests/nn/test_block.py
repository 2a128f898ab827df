"""Laws of the block over one list of tokens."""

import pytest
import torch
from torch import nn

from tabattn.attention import MECHANISMS
from tabattn.nn.block import Norm, RowBlock


def block(mechanism: str, *, readout: bool = False, norm: Norm = "after") -> RowBlock:
    made = RowBlock(12, 2, 16, attention=MECHANISMS[mechanism], readout=readout, norm=norm).eval()
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
    if full.rows.outside is not None:
        short.rows.attention.mechanism.load_state_dict(full.rows.outside.state_dict())
    x = torch.randn(2, 9, 12, requires_grad=True)
    outs = [full(x, 6, mask)[:, 6:], short(x, 6, mask)]
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-5)
    grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in outs]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["after", "before"])
@pytest.mark.parametrize("readout", [False, True])
@pytest.mark.parametrize("mask", [None, key_mask()], ids=["all", "some"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_remembering_and_recalling_equals_one_pass(
    mechanism: str, mask: torch.Tensor | None, readout: bool, norm: Norm
) -> None:
    both, x = block(mechanism, readout=readout, norm=norm), torch.randn(2, 9, 12)
    known, memory = both.remember(x[:, :6], mask)
    asked, same = both.recall(x[:, 6:], memory, mask=mask)
    torch.testing.assert_close(torch.cat([known, asked], dim=1), both(x, 6, mask), rtol=1e-4, atol=1e-5)
    assert same is memory


def test_hidden_rows_change_nothing() -> None:
    rows, x = block("Softmax"), torch.randn(2, 9, 12)
    other = x.clone()
    other[0, 4:6], other[1, 1] = 7.0, 7.0
    shown = torch.cat([key_mask()[:, 0, 0], torch.ones(2, 3, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(rows(x, 6, key_mask())[shown], rows(other, 6, key_mask())[shown])


@pytest.mark.parametrize("norm", ["after", "before"])
def test_recalled_rows_can_join_the_memory(norm: Norm) -> None:
    rows, x = block("Softmax", norm=norm), torch.randn(2, 9, 12)
    _, memory = rows.remember(x[:, :6])
    before = torch.ones(3, 8, dtype=torch.bool)
    before[0, 7] = False
    given, (k, _) = rows.recall(x[:, 6:], memory, 2, before)
    assert k.shape == (2, 2, 8, 6)
    first, memory = rows.recall(x[:, 6:7], memory, 1)
    rest, _ = rows.recall(x[:, 7:], memory, 1)
    torch.testing.assert_close(given, torch.cat([first, rest], dim=1), rtol=1e-4, atol=1e-5)


def test_what_a_block_puts_out_is_normalised() -> None:
    given = RowBlock(12, 2, 16)(10 * torch.randn(2, 9, 12), 6)
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
