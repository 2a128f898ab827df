import pytest
import torch

from tabattn.attention.patterns import band, global_tokens, random, strided


@pytest.mark.parametrize("length", [0, 1, 7])
@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_patterns_are_what_a_loop_says(length, size):
    def loop(rule):
        return torch.tensor([[rule(i, j) for j in range(length)] for i in range(length)]).bool().view(length, length)

    assert torch.equal(band(length, size), loop(lambda i, j: abs(i - j) <= size))
    assert torch.equal(strided(length, size), loop(lambda i, j: (i - j) % size == 0))
    assert torch.equal(global_tokens(length, size), loop(lambda i, j: i < size or j < size))


def test_smallest_and_largest():
    assert torch.equal(band(5, 0), torch.eye(5, dtype=torch.bool))
    assert band(5, 4).all()
    assert strided(5, 1).all()
    assert not global_tokens(5, 0).any()
    assert not random(5, 0, seed=0).any()
    assert random(5, 9, seed=0).all()


def test_random_has_so_many_links_and_follows_its_seed():
    state = torch.get_rng_state()
    pattern = random(20, 3, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert pattern.dtype is torch.bool
    assert (pattern.sum(-1) == 3).all()
    assert torch.equal(pattern, random(20, 3, seed=1))
    assert not torch.equal(pattern, random(20, 3, seed=2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: band(-1, 2), "length must be at least 0, got -1"),
        (lambda: band(3, -2), "reach must be at least 0, got -2"),
        (lambda: strided(3, 0), "stride must be at least 1, got 0"),
        (lambda: global_tokens(3, -1), "tokens must be at least 0, got -1"),
        (lambda: random(3, -1, seed=0), "links must be at least 0, got -1"),
    ],
)
def test_bad_sizes_say_value_and_bound(call, message):
    with pytest.raises(ValueError, match=message):
        call()
