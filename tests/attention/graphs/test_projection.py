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


def test_approximated_scores_are_the_truncated_decomposition_of_the_scores() -> None:
    q, k = torch.randn(3, 40, 6) + 2, torch.randn(3, 50, 6) @ torch.randn(6, 6) - 1
    projection = HeadProjection(3, 6, width=2)
    projection.approximate(q, k)
    own, theirs = (each[0] for each in projection(q[None], k[None]))
    scores = q @ (k - k.mean(dim=1, keepdim=True)).mT / 6**0.5
    u, values, v = torch.linalg.svd(scores, full_matrices=False)
    best = (u[..., :2] * values[:, None, :2]) @ v[:, :2]
    torch.testing.assert_close(own @ theirs.mT / 2**0.5, best, rtol=1e-4, atol=1e-4)
    # The two share the singular values.
    torch.testing.assert_close((own.mT @ own) / 40, (theirs.mT @ theirs) / 50, rtol=1e-4, atol=1e-4)
    assert all(each.requires_grad for each in projection.parameters())


def test_approximated_scores_of_full_width_are_the_scores() -> None:
    q, k = torch.randn(2, 40, 6), torch.randn(2, 50, 6)
    k[..., 0] = q[..., 1] = 0
    for shared in (False, True):
        projection = HeadProjection(2, 6, width=6, shared=shared)
        projection.approximate(q, k)
        own, theirs = (each[0] for each in projection(q[None], k[None]))
        rows = own @ theirs.mT - q @ k.mT
        # Up to a number for each query; a shared map centres queries too.
        rows = rows - rows.mean(dim=-1, keepdim=True)
        torch.testing.assert_close(rows - rows.mean(dim=-2, keepdim=True) * shared, 0 * rows, rtol=0, atol=1e-4)


def test_a_shared_map_has_principal_directions() -> None:
    x = torch.randn(1, 1000, 3) * torch.tensor([1.0, 5.0, 3.0]) + 7
    projection = HeadProjection(1, 3, width=2, shared=True)
    projection.approximate(x[:, :400], x[:, 400:])
    directions = projection.q.w[0].abs() / (2 / 3) ** 0.25
    torch.testing.assert_close(directions, torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), rtol=0, atol=0.1)
    assert projection(x[None], x[None])[0].mean(dim=2).abs().max() < 1e-4


def test_queries_are_mapped_to_what_they_attend_to() -> None:
    q, k = torch.randn(2, 60, 6) + 3, torch.randn(2, 50, 6) - 1
    # What is attended to is a linear function of the query.
    attended = q @ torch.randn(2, 6, 6) + 2
    plain, placed = HeadProjection(2, 6, width=3), HeadProjection(2, 6, width=3)
    plain.approximate(q, k)
    placed.approximate(q, k, attended)
    own, theirs = placed(q[None], attended[None])
    assert (own - theirs).square().mean() < 1e-3 * theirs.var()
    assert torch.equal(placed.k.w, plain.k.w)
    torch.testing.assert_close(own.mean(dim=2), theirs.mean(dim=2), rtol=0, atol=1e-4)
    # Equal queries are mapped to the mean.
    placed.approximate(0 * q + 1, k, attended)
    own, theirs = placed(0 * q[None] + 1, attended[None])
    torch.testing.assert_close(own, theirs.mean(dim=2, keepdim=True).expand_as(own), rtol=0, atol=1e-4)


def test_scores_are_approximated_by_linear_maps_of_at_most_full_width() -> None:
    x = torch.randn(2, 10, 8)
    with pytest.raises(ValueError, match="hidden must be None to approximate"):
        HeadProjection(2, 8, hidden=5).approximate(x, x)
    with pytest.raises(ValueError, match=r"width must be at most 8, .*, got 9"):
        HeadProjection(2, 8, width=9).approximate(x, x)
    with pytest.raises(ValueError, match="attended must be None for a shared map"):
        HeadProjection(2, 8, shared=True).approximate(x, x, x)
    with pytest.raises(ValueError, match="keys must be at least 1, got 0"):
        HeadProjection(2, 8).approximate(x, x[:, :0])


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


def test_both_of_a_token_together_are_one_point() -> None:
    made = HeadProjection(2, 3, width=4, hidden=5, shared="concat")
    q, k = torch.randn(1, 2, 6, 3), torch.randn(1, 2, 6, 3)
    own, theirs = made(q, k)
    assert torch.equal(own, theirs)
    torch.testing.assert_close(own, made.q(torch.cat((q, k), dim=-1)))
    assert made.q.w1.shape == (2, 6, 5)
    assert {name[0] for name in made.state_dict()} == {"q"}
    with pytest.raises(ValueError, match="must have one length, got 6 and 5"):
        made(q, k[:, :, :5])


def test_nothing_is_projected_without_a_width() -> None:
    q, k = torch.randn(1, 2, 6, 3), torch.randn(1, 2, 5, 3)
    made = HeadProjection(2, 3, width=None)
    assert made.width == 3
    assert not made.state_dict()
    for given, found in zip((q, k), made(q, k), strict=True):
        assert torch.equal(given, found)
    both = HeadProjection(2, 3, width=None, shared="concat")
    assert both.width == 6
    assert torch.equal(both(q, q)[1], torch.cat((q, q), dim=-1))


@pytest.mark.parametrize("own", [{"shared": "concat"}, {"width": None}, {"width": 5}, {"hidden": 4}])
def test_maps_that_cannot_be_factors(own: dict) -> None:
    made = HeadProjection(2, 3, **{"width": 2, **own})
    assert not made.approximates
    with pytest.raises(ValueError, match="to approximate scores"):
        made.approximate(torch.randn(2, 6, 3), torch.randn(2, 6, 3))
    assert HeadProjection(2, 3, width=3).approximates
    with pytest.raises(ValueError, match="shared must be true, false or concat, got 'both'"):
        HeadProjection(2, 3, shared="both")
    with pytest.raises(ValueError, match=r"hidden must be None where nothing is projected \(width None\), got 4"):
        HeadProjection(2, 3, width=None, hidden=4)
