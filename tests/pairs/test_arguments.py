"""Arguments of the networks of sequence pairs."""

import pytest

from tabattn.attention import Local, Softmax, TopK
from tabattn.contract.batches import Scaling
from tabattn.pairs import TNPD
from tests.pairs.cases import SIZES, awake, task


def test_one_layer_is_enough_for_mechanisms_that_answer_targets() -> None:
    assert awake(layers=1)(*task()).batch_shape == (2, 5)
    assert awake(layers=1, target_attention=TopK)(*task()).batch_shape == (2, 5)


@pytest.mark.parametrize(
    ("arch", "arguments", "message"),
    [
        ("TNPD", {"layers": 0}, "layers must be at least 1, got 0"),
        ("SeedNetwork", {"layers": 0}, "layers must be at least 1, got 0"),
        ("TNPD", {"hidden": 0}, "hidden must be at least 1, got 0"),
        ("TNPD", {"members": 0}, "members must be at least 1, got 0"),
        ("TNPD", {"fourier": -1}, "fourier must be at least 0, got -1"),
        ("SeedNetwork", {"fourier": -1}, "fourier must be at least 0, got -1"),
        ("TNPD", {"components": 0}, "components must be at least 1, got 0"),
        ("TNPD", {"heads": 3}, "dim must be a multiple of heads, got dim 16 and heads 3"),
        ("SeedNetwork", {"heads": 3}, "dim must be a multiple of heads, got dim 16 and heads 3"),
        ("TNPD", {"layers": 1, "attention": Local}, "layers must be at least 2 for attention Local, got 1"),
        ("TNPD", {"residual": "last"}, "residual must be none or nearest or parallel, got 'last'"),
        ("TNPD", {"member_embed": "none"}, "member_embed must be one_hot, learned or hidden, got 'none'"),
        ("TNPA", {"residual": "parallel"}, "residual must be none or nearest, got 'parallel'"),
        ("TNPD", {"residual": "nearest", "member_embed": "hidden"}, "residual nearest reads the labels"),
        ("SeedNetwork", {"attention": TopK, "target_attention": Softmax}, "has one attention"),
    ],
)
def test_bad_arguments_are_refused(arch: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        awake(arch, **arguments)


@pytest.mark.parametrize("context", [-1, 12])
def test_bad_context_is_refused(context: int) -> None:
    x, y, member, _ = task()
    with pytest.raises(ValueError, match=f"below the number of points \\(12\\), got {context}"):
        awake()(x, y, member, context)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        (Scaling(x_low=1.0, x_high=1.0), "x_high must be above x_low, got 1.0 and 1.0"),
        (Scaling(y_std=0.0), "y_std must be above 0, got 0.0"),
    ],
)
def test_bad_units_are_refused(scaling: Scaling, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TNPD(**SIZES).scale(scaling)
