"""Head-wise projections: formulas, starting values, shared maps, and states of the published layout."""

import pytest
import torch

from tabattn.attention.graphs import HeadProjection


def test_linear_map_of_each_head() -> None:
    projection = HeadProjection(3, 8, width=2)
    q, k = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8)
    found = projection(q, k)
    for x, side, y in ((q, projection.q, found[0]), (k, projection.k, found[1])):
        for head in range(3):
            torch.testing.assert_close(y[:, head], x[:, head] @ side.w[head] + side.b[head, 0])


def test_hidden_layer_of_each_head() -> None:
    projection = HeadProjection(3, 8, width=2, hidden=6)
    q = torch.randn(2, 3, 5, 8)
    own = projection.q
    for head in range(3):
        inner = torch.tanh(q[:, head] @ own.w1[head] + own.b1[head, 0])
        torch.testing.assert_close(projection(q, q)[0][:, head], inner @ own.w2[head] + own.b2[head, 0])


@pytest.mark.parametrize("hidden", [None, 16])
def test_shared_map_is_registered_once(hidden: int | None) -> None:
    apart, shared = (HeadProjection(2, 8, hidden=hidden, shared=shared) for shared in (False, True))
    tensors = 2 if hidden is None else 4
    assert len(list(shared.parameters())) == len(shared.state_dict()) == tensors
    assert len(list(apart.parameters())) == len(apart.state_dict()) == 2 * tensors
    assert all(name.startswith("q.") for name in shared.state_dict())
    x = torch.randn(1, 2, 4, 8)
    assert torch.equal(*shared(x, x))
    assert not torch.equal(*apart(x, x))


def test_states_have_the_published_names_and_shapes() -> None:
    shapes = {name: tuple(each.shape) for name, each in HeadProjection(2, 8, width=3).q.state_dict().items()}
    assert shapes == {"w": (2, 8, 3), "b": (2, 1, 3)}
    shapes = {name: tuple(each.shape) for name, each in HeadProjection(2, 8, width=3, hidden=5).q.state_dict().items()}
    assert shapes == {"w1": (2, 8, 5), "b1": (2, 1, 5), "w2": (2, 5, 3), "b2": (2, 1, 3)}


def test_starting_values_are_bounded_by_the_inputs_of_a_head() -> None:
    own = HeadProjection(16, 64, width=32, hidden=100).q
    for weight, bias, inputs in ((own.w1, own.b1, 64), (own.w2, own.b2, 100)):
        for each in (weight, bias):
            assert each.abs().max() <= inputs**-0.5
            assert each.abs().max() > 0.9 * inputs**-0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_projected_in_single(dtype: torch.dtype) -> None:
    projection = HeadProjection(2, 8)
    x = torch.randn(1, 2, 4, 8).to(dtype)
    assert torch.equal(projection(x, x)[0], projection(x.float(), x.float())[0])
    assert projection.to(dtype)(x, x)[1].dtype == torch.float32


@pytest.mark.parametrize("sizes", [{"heads": 0}, {"head_dim": 0}, {"width": 0}, {"hidden": 0}])
def test_sizes_are_checked(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(sizes))} must be at least 1, got 0"):
        HeadProjection(**{"heads": 2, "head_dim": 8, **sizes})
