"""Block gate: what is pooled, which blocks are chosen, and what hidden tokens may not do."""

import pytest
import torch

from tabattn.attention.graphs.gate import BlockGate, gate_scores

HEADS, HEAD_DIM, WIDTH = 2, 4, 3


def gate(knob: float = 2, **options: int) -> BlockGate:
    generator = torch.Generator().manual_seed(0)
    found = BlockGate(knob, **options)
    found.of_queries = torch.randn(HEADS, HEAD_DIM, WIDTH, generator=generator)
    found.of_keys = torch.randn(HEADS, 3 * HEAD_DIM, WIDTH, generator=generator)
    return found


def tokens(batch: int, queries: int, keys: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, HEADS, queries, HEAD_DIM), torch.randn(batch, HEADS, keys, HEAD_DIM)


def test_each_query_sees_the_blocks_of_the_highest_scores():
    pattern = gate(2, block=4)
    q, k = tokens(3, 5, 18)
    found = pattern.edges(q, k)
    for item, head, query in torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(5)).tolist():
        own = q[item, head, query] @ pattern.of_queries[head]
        blocks = k[item, head].split(4)
        pooled = [torch.cat((block.amax(0), block.amin(0), block.mean(0))) @ pattern.of_keys[head] for block in blocks]
        scores = torch.stack([own @ each for each in pooled])
        expected = torch.isin(torch.arange(18) // 4, scores.topk(2).indices)
        assert torch.equal(found[item, head, query], expected)


def test_pooled_blocks_and_scores_by_hand():
    pattern = gate(1, block=3, query_block=2)
    q = torch.tensor([[1.0, 0, 0, 0], [3, 0, 0, 0], [5, 0, 0, 0]]).expand(1, HEADS, 3, 4)
    k = torch.tensor([[0.0, 2, 0, 0], [0, -4, 0, 0], [0, 9, 0, 0], [0, 7, 0, 0]]).expand(1, HEADS, 4, 4)
    keys, queries = torch.tensor([True, True, False, True]), torch.tensor([[True], [False], [True]])
    pooled = pattern.pooled(q, k, keys.expand(1, 1, 1, 4), queries.expand(1, 1, 3, 1))
    assert pooled.queries[0, 0, :, 0].tolist() == [1, 5]
    assert pooled.keys[0, 0, :, [1, 5, 9]].tolist() == [[2, -4, -1], [7, 7, 7]]
    expected = pooled.queries[0, 1] @ pattern.of_queries[1] @ (pooled.keys[0, 1] @ pattern.of_keys[1]).mT / WIDTH**0.5
    torch.testing.assert_close(gate_scores(pooled, pattern.of_queries, pattern.of_keys)[0, 1], expected)


def test_queries_of_a_block_see_what_their_mean_does():
    pattern, alone = gate(2, block=4, query_block=3), gate(2, block=4)
    q, k = tokens(2, 7, 18)
    found = pattern.edges(q, k)
    means = torch.stack([q[:, :, 0:3].mean(2), q[:, :, 3:6].mean(2), q[:, :, 6]], dim=2)
    assert torch.equal(found, alone.edges(means, k).repeat_interleave(3, dim=2)[:, :, :7])


def test_hidden_tokens_have_no_influence():
    pattern = gate(2, block=4, query_block=3)
    q, k = tokens(2, 13, 26)
    keys, queries = torch.rand(2, 1, 1, 26) < 0.6, torch.rand(2, 1, 13, 1) < 0.6
    keys[:, :, :, 8:12] = False
    graphs = []
    for hidden in (0.0, -1e3, 1e3):
        own, theirs = torch.where(queries, q, hidden), torch.where(keys.mT, k, hidden)
        graphs.append(pattern.edges(own, theirs, keys, queries) & keys & queries)
    assert torch.equal(graphs[0], graphs[1])
    assert torch.equal(graphs[0], graphs[2])
    assert not pattern.edges(q, k, keys, queries)[..., 8:12].any()


def test_padding_changes_nothing():
    pattern = gate(2, block=4, query_block=3)
    q, k = tokens(2, 14, 26)
    more = [torch.cat((x, 9 * torch.randn(2, HEADS, 11, HEAD_DIM)), dim=2) for x in (q, k)]
    keys, queries = torch.arange(37) < 26, torch.arange(25)[:, None] < 14
    padded = pattern.edges(*more, keys.expand(2, 1, 1, 37), queries.expand(2, 1, 25, 1))
    assert torch.equal(padded[:, :, :14, :26], pattern.edges(q, k))


def test_a_block_of_one_key_and_all_blocks():
    q, k = tokens(2, 5, 9)
    assert gate(9, block=1).edges(q, k).all()
    assert torch.equal(gate(2, block=1).edges(q, k).sum(-1), torch.full((2, HEADS, 5), 2))
    assert gate(4, block=100).edges(q.half(), k.half()).all()


def test_tokens_that_see_nothing_and_empty_batches():
    pattern = gate(2, block=4)
    q, k = tokens(2, 5, 9)
    nothing = torch.zeros(2, 1, 1, 9, dtype=torch.bool)
    assert not pattern.edges(q, k, nothing).any()
    scores = gate_scores(pattern.pooled(q, k, nothing), pattern.of_queries, pattern.of_keys)
    assert torch.equal(scores, torch.full_like(scores, -torch.inf))
    assert pattern.edges(*tokens(0, 5, 9)).shape == (0, HEADS, 5, 9)


def test_weights_are_loaded_whatever_their_sizes():
    q, k = tokens(2, 5, 40)
    pattern, other = gate(2), BlockGate(2)
    other.load_state_dict(pattern.state_dict())
    assert torch.equal(other.edges(q, k), pattern.edges(q, k))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockGate(0), "knob must be a whole number of at least 1, got 0"),
        (lambda: BlockGate(1.5), "knob must be a whole number of at least 1, got 1.5"),
        (lambda: BlockGate(block=0), "block must be at least 1, got 0"),
        (lambda: BlockGate(query_block=0), "query_block must be at least 1, got 0"),
        (lambda: BlockGate().edges(*tokens(1, 3, 3)), "the gate has no weights"),
        (
            lambda: gate().edges(torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5)),
            "the gate is of 2 heads and width 4, queries of 3 and 5",
        ),
    ],
)
def test_bad_arguments_say_value_and_bound(make, message):
    with pytest.raises(ValueError, match=message):
        make()
