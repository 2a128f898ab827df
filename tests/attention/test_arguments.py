"""Bad arguments are refused with their value and bound."""

import pytest
import torch

from tabattn.attention import MECHANISMS, Mechanism
from tests.attention.cases import CASES, HEAD_DIM, HEADS

BAD = [
    ("Softmax", {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ("Scratch", {"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
    ("Sparse", {"window": 0}, "window must be at least 1, got 0"),
    ("Local", {"window": 0}, "window must be at least 1, got 0"),
    ("Local", {"edges": "open"}, "edges must be exact or zero, got open"),
    ("Pooling", {"points": 0}, "points must be at least 1, got 0"),
    ("Inducing", {"points": 0}, "points must be at least 1, got 0"),
    ("Nystrom", {"landmarks": 0}, "landmarks must be at least 1, got 0"),
    ("Nystrom", {"iterations": 0}, "iterations must be at least 1, got 0"),
    ("Nystrom", {"iterations": 10**9}, "iterations must be at most 1000, got 1000000000"),
    ("TopK", {"keep": 0}, "keep must be at least 1, got 0"),
    ("TopK", {"block": 0}, "block must be at least 1, got 0"),
    ("Entmax", {"alpha": 0.9}, r"alpha must be in \[1, 2\], got 0.9"),
    ("Entmax", {"alpha": 1.0, "learn_alpha": True}, r"alpha must start in \[1.01, 2\) to be learned, got 1.0"),
    ("Entmax", {"block": 0}, "block must be at least 1, got 0"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_bad_arguments_say_value_and_bound(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        MECHANISMS[name](HEADS, HEAD_DIM, **arguments)


@pytest.mark.parametrize("name", MECHANISMS)
def test_bad_sizes_say_value_and_bound(name):
    for size, message in (((0, 4), "heads must be at least 1, got 0"), ((2, 0), "head_dim must be at least 1, got 0")):
        with pytest.raises(ValueError, match=message):
            MECHANISMS[name](*size)


def test_weights_restore_training_after_an_error():
    class Broken(Mechanism):
        def forward(self, q, k, v, mask=None):
            raise RuntimeError("broken")

    mechanism = Broken(1, 1).train()
    with pytest.raises(RuntimeError, match="broken"):
        mechanism.weights(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert mechanism.training


@pytest.mark.parametrize("name", CASES)
def test_arguments_make_another_like_it(name):
    mechanism = CASES[name](HEADS, HEAD_DIM).eval()
    other = type(mechanism)(HEADS, HEAD_DIM, **mechanism.arguments()).eval()
    other.load_state_dict(mechanism.state_dict())
    q, k, v = torch.randn(3, 2, HEADS, 13, HEAD_DIM)
    torch.testing.assert_close(other(q, k, v), mechanism(q, k, v), rtol=0, atol=0)
    assert other.arguments() == mechanism.arguments()
