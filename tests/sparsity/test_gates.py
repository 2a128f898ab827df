"""Distillation of block gates: loss, targets, and what is learned."""

import pytest
import torch
from torch.nn.functional import kl_div

from tabattn.attention import Entmax
from tabattn.attention.graphs.gate import BlockGate
from tabattn.sparsity.gates import Lesson, fit_gate, gate_loss, gate_target

BLOCK, TOPICS = 4, 8


def lesson(seed: int, items: int = 3, clusters: int = TOPICS) -> Lesson:
    """Attention whose keys are alike in blocks: each query attends to one block, by the last dimensions of its head."""
    generator = torch.Generator().manual_seed(seed)
    topics = torch.randn(2, clusters, 6, generator=torch.Generator().manual_seed(99))
    order = torch.stack([torch.randperm(clusters, generator=generator) for _ in range(items)])
    asked = torch.randint(clusters, (items, 20), generator=generator)
    k = topics[:, order.repeat_interleave(BLOCK, dim=1)].transpose(0, 1)
    q = 4 * topics[:, asked].transpose(0, 1)
    q, k = (x + 0.1 * torch.randn(x.shape, generator=generator) for x in (q, k))
    # Products with the first dimensions tell nothing.
    noise = [torch.randn(*x.shape[:-1], 2, generator=generator) for x in (q, k)]
    q, k = (torch.cat(each, dim=-1) for each in zip(noise, (q, k), strict=True))
    return Lesson(q, k, Entmax(2, 8).weights(q, k))


def test_target_is_the_largest_weight_of_each_block_over_their_sum():
    p = torch.rand(2, 3, 5, 10)
    counted = torch.rand(2, 1, 5, 1) < 0.7
    target = gate_target(p, counted, 4, 2)
    assert target.shape == (2, 3, 3, 3)
    for row, start in enumerate(range(0, 5, 2)):
        own = p.masked_fill(~counted, 0.0)[:, :, start : start + 2]
        largest = torch.stack([own[..., at : at + 4].amax((-2, -1)) for at in range(0, 10, 4)], dim=-1)
        torch.testing.assert_close(target[:, :, row], largest / largest.sum(-1, keepdim=True).clamp(min=1e-30))


def test_loss_is_the_divergence_of_the_rows_that_count():
    scores, target = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5).softmax(-1)
    expected = kl_div(scores.log_softmax(-1), target, reduction="none").sum((0, 2, 3)) / 8
    torch.testing.assert_close(gate_loss(scores, target), expected)
    assert torch.allclose(gate_loss(target.log(), target), torch.zeros(3), atol=1e-6)
    # One row of each head does not count, whatever its scores.
    target[0, :, 0], scores[0, :, 0] = 0.0, torch.nan
    some = kl_div(scores.log_softmax(-1), target, reduction="none").flatten(2)[..., 0]
    assert some.shape == (2, 3)
    rows = kl_div(scores.log_softmax(-1), target, reduction="none").sum(-1)
    rows[0, :, 0] = 0.0
    torch.testing.assert_close(gate_loss(scores, target), rows.sum((0, 2)) / 7)


def test_hidden_blocks_have_neither_loss_nor_gradient():
    scores = torch.randn(1, 2, 3, 5).masked_fill(torch.arange(5) > 2, -torch.inf).requires_grad_()
    target = torch.cat((torch.rand(1, 2, 3, 3).softmax(-1), torch.zeros(1, 2, 3, 2)), dim=-1)
    target[:, :, 1] = 0.0
    loss = gate_loss(scores, target)
    torch.testing.assert_close(loss, gate_loss(scores[..., :3], target[..., :3]))
    loss.sum().backward()
    assert scores.grad.isfinite().all()
    assert not scores.grad[..., 3:].any()
    assert not scores.grad[:, :, 1].any()
    assert gate_loss(scores, torch.zeros_like(target)).tolist() == [0.0, 0.0]


def recall(gate: BlockGate, given: Lesson) -> float:
    gold = given.p > 0
    return float((gate.edges(given.q, given.k, given.keys, given.queries) & gold).sum() / gold.sum())


def test_a_fitted_gate_finds_the_blocks_of_attention():
    gate, new = BlockGate(1, block=BLOCK), lesson(7)
    first = fit_gate(gate, [lesson(seed) for seed in range(3)], steps=1, width=2)
    assert recall(gate, new) < 0.6
    last = fit_gate(gate, [lesson(seed) for seed in range(3)], steps=200, width=4, lr=0.02)
    assert (last < first / 2).all()
    # Some queries attend to keys of more than one block.
    assert recall(gate, new) > 0.8


def test_fitting_is_deterministic_and_works_in_inference_mode():
    gates = [BlockGate(1, block=BLOCK) for _ in range(2)]
    state = torch.get_rng_state()
    given = [lesson(0, items=1)]
    plain = fit_gate(gates[0], given, steps=3)
    with torch.inference_mode():
        again = fit_gate(gates[1], [lesson(0, items=1)], steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(plain, again)
    assert torch.equal(gates[0].of_keys, gates[1].of_keys)
    assert not gates[0].of_keys.requires_grad


def test_what_is_hidden_teaches_nothing():
    given = lesson(0)
    keys, queries = torch.arange(32) < 20, torch.arange(20)[:, None] < 11
    keys, queries = keys.expand(3, 1, 1, 32), queries.expand(3, 1, 20, 1)
    p = Entmax(2, 8).weights(given.q, given.k, keys)
    losses = []
    for hidden in (0.0, 1e3):
        q, k = torch.where(queries, given.q, hidden), torch.where(keys.mT, given.k, hidden)
        weights = torch.where(queries, p, 0.0 if hidden else 0.1)
        losses.append(fit_gate(BlockGate(1, block=BLOCK), [Lesson(q, k, weights, keys, queries)], steps=5))
    assert torch.equal(*losses)


def test_lessons_and_sizes_are_checked():
    with pytest.raises(ValueError, match="lessons must hold at least 1 part, got none"):
        fit_gate(BlockGate(), [])
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        fit_gate(BlockGate(), [lesson(0)], steps=0)
