import copy

import pytest
import torch
import torch.nn.functional as F

from tabattn.attention import MECHANISMS, Entmax, Local, Mechanism, Nystrom, Scratch, Softmax, Sparse, TopK
from tests.attention.cases import (
    CASES,
    HEAD_DIM,
    HEADS,
    KEY_MASKS,
    NO_DROPOUT,
    POSITIONAL,
    STATIC,
    Inputs,
    family,
    gradients,
    inputs,
    leaves,
    make,
)

close = torch.testing.assert_close
every = pytest.mark.parametrize("case", CASES)


def only(*excluded: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [case for case in CASES if family(case) not in excluded])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_registry_names_are_class_names():
    assert all(cls.__name__ == name for name, cls in MECHANISMS.items())
    assert list(MECHANISMS) == [
        *("Softmax", "Scratch", "Sparse", "Local", "Pooling"),
        *("Inducing", "Linear", "Nystrom", "TopK", "Entmax"),
    ]


@every
@pytest.mark.parametrize("length", [1, 7, 63])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_shapes(case, length, batch):
    mechanism = make(case)
    for queries in {length, 5}:
        x = leaves(inputs(case, batch, queries, length))
        out = mechanism(*x)
        assert out.shape == (*x.q.shape[:3], HEAD_DIM)
        assert all(grad.isfinite().all() for grad in gradients(out, *x))


@only(*STATIC)
def test_values_of_any_width(case):
    x = inputs(case)
    v = torch.randn(2, HEADS, 11, 3)
    mechanism = make(case)
    close(mechanism(x.q, x.k, v), mechanism.weights(x.q, x.k) @ v, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", POSITIONAL)
def test_unequal_lengths_are_refused_by_mechanisms_that_compare_positions(case):
    q, k = torch.randn(1, HEADS, 5, HEAD_DIM), torch.randn(1, HEADS, 7, HEAD_DIM)
    with pytest.raises(ValueError, match=r"one length, got 5 and 7"):
        make(case)(q, k, k)


@pytest.mark.parametrize("case", KEY_MASKS)
def test_masks_by_query_are_refused_by_mechanisms_that_summarise_keys(case):
    x = inputs(case)
    with pytest.raises(ValueError, match=r"query dimension 1, got a mask of shape \(1, 1, 9, 11\)"):
        make(case)(*x, torch.ones(9, 11, dtype=torch.bool))


@every
@pytest.mark.parametrize("masked", [False, True])
def test_weights_are_what_forward_does(case, masked):
    mechanism = make(case, **({} if family(case) in NO_DROPOUT else {"dropout": 0.5})).train()
    x = inputs(case)
    mask = key_mask() if masked else None
    weights = mechanism.weights(x.q, x.k, mask)
    assert mechanism.training
    values = mechanism.memory_values if family(case) in STATIC else x.v
    close(weights @ values, mechanism.eval()(*x, mask), atol=1e-5, rtol=1e-4)


@every
@pytest.mark.parametrize("masked", [False, True])
def test_rows_sum_to_one(case, masked):
    settings = {"iterations": 30} if family(case) == "Nystrom" else {}
    mechanism = make(case, **settings).double()
    x = inputs(case, dtype=torch.float64)
    mask = torch.arange(11) % 4 != 1 if masked else None
    weights = mechanism.weights(x.q, x.k, mask)
    close(weights.sum(-1), torch.ones_like(weights[..., 0]), atol=1e-6, rtol=0)
    if family(case) != "Nystrom":
        assert (weights >= 0).all()


@pytest.mark.parametrize(
    ("case", "by_query"),
    [
        (case, by_query)
        for case in CASES
        for by_query in (False, True)
        if family(case) not in (*STATIC, *(KEY_MASKS if by_query else ()))
    ],
)
def test_hidden_keys_do_not_exist(case, by_query):
    x = leaves(inputs(case, queries=11))
    mask = query_mask(11, 11) if by_query else key_mask()
    mechanism = make(case)
    weights = mechanism.weights(x.q, x.k, mask)
    close(weights.masked_fill(mask, 0.0), torch.zeros_like(weights), atol=0, rtol=0)

    hidden = ~mask.expand(2, HEADS, 11, 11).any(dim=2)
    assert hidden.any()
    out = mechanism(*x, mask)
    noise = 100 * torch.randn_like(x.k) * hidden[..., None]
    close(mechanism(x.q, x.k + noise, x.v - noise, mask), out, atol=1e-6, rtol=1e-6)
    for grad in gradients(out, x.k, x.v):
        assert grad[hidden].eq(0).all()
        assert grad[~hidden].ne(0).any()


@every
def test_queries_that_may_see_nothing_yield_zeros(case):
    x = leaves(inputs(case, queries=11))
    masks = [torch.tensor([True, False])[:, None, None, None].expand(2, 1, 1, 11)]
    if family(case) not in KEY_MASKS:
        masks.append(query_mask(11, 11) & (torch.arange(11) != 3)[:, None])
    mechanism = make(case)
    for mask in masks:
        out = mechanism(*x, mask)
        blind = ~mask.any(-1).expand(out.shape[:3])
        assert blind.any()
        assert out[blind].eq(0).all()
        assert out[~blind].ne(0).any()
        wanted = gradients(out, *x, *mechanism.parameters())
        assert all(grad.isfinite().all() for grad in wanted)
        assert wanted[0][blind].eq(0).all()


@every
def test_masks_broadcast_in_every_dimension(case):
    x = inputs(case)
    mechanism = make(case)
    row = torch.arange(11) > 2
    want = mechanism(*x, row.expand(2, HEADS, 1, 11))
    for mask in (row, row[None], row[None, None], row.expand(1, HEADS, 1, 11), row.expand(2, 1, 1, 11)):
        close(mechanism(*x, mask), want, atol=1e-6, rtol=1e-6)


@every
def test_order_of_keys_matters_as_declared(case):
    x = leaves(inputs(case))
    order = torch.randperm(11)
    shuffled = Inputs(x.q, x.k[:, :, order], x.v[:, :, order])
    mechanism = make(case)
    out, again = mechanism(*x), mechanism(*shuffled)
    if mechanism.order_free:
        close(again, out, atol=1e-5, rtol=1e-4)
        for got, want in zip(gradients(again, *x), gradients(out, *x), strict=True):
            close(got, want, atol=1e-5, rtol=1e-4)
    elif case in ("Sparse-narrow", "Local-narrow", "Nystrom-few"):
        assert (again - out).abs().max() > 1e-2


@every
def test_other_queries_matter_as_declared(case):
    x = inputs(case, queries=11)
    mechanism = make(case)
    if mechanism.order_free:
        close(mechanism(x.q[:, :, 4:6], x.k, x.v), mechanism(*x)[:, :, 4:6], atol=1e-5, rtol=1e-4)
    elif case == "Nystrom-few":
        assert (mechanism(x.q[:, :, 4:6], x.k, x.v) - mechanism(*x)[:, :, 4:6]).abs().max() > 1e-2


def test_order_matters_for_three():
    assert {name for name, cls in MECHANISMS.items() if not cls.order_free} == {"Sparse", "Local", "Nystrom"}


@every
def test_batch_elements_are_independent(case):
    x = inputs(case, batch=3)
    mask = torch.rand(3, 1, 1, 11) > 0.3
    mechanism = make(case)
    together = mechanism(*x, mask)
    for i in range(3):
        close(mechanism(*(part[i : i + 1] for part in x), mask[i : i + 1]), together[i : i + 1], atol=1e-5, rtol=1e-4)


@every
def test_heads_are_independent(case):
    x = leaves(inputs(case))
    for grad in gradients(make(case)(*x)[:, :1], *x):
        assert grad[:, 1:].eq(0).all()


@only(*NO_DROPOUT)
def test_dropout_acts_in_training_only(case):
    x = leaves(inputs(case))
    mechanism = make(case, dropout=0.3).eval()
    calm = mechanism(*x)
    close(mechanism(*x), calm, atol=0, rtol=0)
    mechanism.train()
    draws = torch.stack([mechanism(*x) for _ in range(100)]).detach()
    assert not torch.equal(draws[0], draws[1])
    spread = draws.std(dim=0) / 100**0.5
    assert ((draws.mean(0) - calm).abs() <= 5 * spread + 1e-4).float().mean() > 0.95


@only(*NO_DROPOUT)
def test_dropout_is_the_same_in_backward(case):
    x = leaves(inputs(case, batch=1, queries=4, keys=5, dtype=torch.float64))
    mechanism = make(case, dropout=0.3).double().train()

    def again(q, k, v):
        torch.manual_seed(5)
        return mechanism(q, k, v)

    assert torch.autograd.gradcheck(again, tuple(x), atol=1e-5)


@pytest.mark.parametrize("case", NO_DROPOUT)
def test_mechanisms_without_a_weight_matrix_have_no_dropout(case):
    x = inputs(case)
    mechanism = make(case).train()
    close(mechanism(*x), mechanism.eval()(*x), atol=0, rtol=0)


@pytest.mark.parametrize("case", [case for case in CASES if list(make(case).parameters())])
def test_every_parameter_learns(case):
    mechanism = make(case)
    grads = gradients(mechanism(*inputs(case)), *mechanism.parameters())
    for grad in grads:
        assert grad.isfinite().all()
        assert grad.ne(0).all()


@every
def test_gradients_are_exact(case):
    mechanism = make(case).double()
    x = leaves(inputs(case, batch=1, queries=5, keys=7, dtype=torch.float64))
    names = [name for name, _ in mechanism.named_parameters()]
    mask = torch.arange(7) != 2

    def call(q, k, v, *parameters):
        return torch.func.functional_call(mechanism, dict(zip(names, parameters, strict=True)), (q, k, v, mask))

    assert torch.autograd.gradcheck(call, (*x, *mechanism.parameters()))


@every
def test_bfloat16_autocast_is_finite_and_near(case):
    mechanism = make(case)
    x = leaves(inputs(case))
    half = leaves(Inputs(*(part.bfloat16() for part in x)))
    want = mechanism(*x, key_mask())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = mechanism(*half, key_mask())
    assert got.dtype is torch.bfloat16
    # Rounded scores may swap near ties at the edge of a support, which the means of the errors forgive.
    assert (got - want).abs().mean() < 0.02
    for rough, fine in zip(gradients(got, *half), gradients(want, *x), strict=True):
        assert rough.isfinite().all()
        assert (rough - fine).abs().mean() < 0.05


EQUAL_TO_SOFTMAX = {
    "Scratch": Scratch(HEADS, HEAD_DIM),
    "Sparse, window 2 x length": Sparse(HEADS, HEAD_DIM, window=22),
    "Local, window length": Local(HEADS, HEAD_DIM, window=11),
    "Nystrom, landmark for each token": Nystrom(HEADS, HEAD_DIM, landmarks=11, iterations=40),
    "TopK, keep all": TopK(HEADS, HEAD_DIM, keep=11),
    "Entmax, alpha 1": Entmax(HEADS, HEAD_DIM, alpha=1.0),
    "Entmax, alpha near 1": Entmax(HEADS, HEAD_DIM, alpha=1 + 1e-7),
}


@pytest.mark.parametrize("setting", EQUAL_TO_SOFTMAX)
@pytest.mark.parametrize("masked", [False, True])
def test_degenerate_setting_equals_softmax(setting, masked):
    mechanism = EQUAL_TO_SOFTMAX[setting]
    x = leaves(inputs("Softmax", queries=11, dtype=torch.float64))
    mask = key_mask() if masked else None
    got, want = mechanism(*x, mask), Softmax(HEADS, HEAD_DIM)(*x, mask)
    close(got, want, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", ["Softmax", "Scratch"])
def test_softmax_is_the_closed_form(case):
    x = inputs(case)
    want = torch.einsum("bhqk,bhkd->bhqd", F.softmax(torch.einsum("bhqd,bhkd->bhqk", x.q, x.k) / 2, -1), x.v)
    close(make(case)(*x), want, atol=1e-5, rtol=1e-5)


@every
def test_copies_and_checkpoints_are_the_same_mechanism(case):
    mechanism, other = make(case), make(case)
    x = inputs(case)
    want = mechanism(*x)
    close(copy.deepcopy(mechanism)(*x), want, atol=0, rtol=0)
    other.load_state_dict(mechanism.state_dict())
    close(other(*x), want, atol=0, rtol=0)


# The compiler makes an autograd function's context in a way that torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@every
def test_compiles_without_graph_breaks(case):
    torch._dynamo.reset()
    mechanism = make(case)
    x = leaves(inputs(case, queries=5))
    compiled = torch.compile(mechanism, fullgraph=True, backend="eager")
    got, want = compiled(*x, key_mask()), mechanism(*x, key_mask())
    close(got, want, atol=1e-6, rtol=1e-6)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        close(ours, theirs, atol=1e-5, rtol=1e-5)


BAD = [
    ("Softmax", {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ("Scratch", {"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
    ("Sparse", {"window": 0}, "window must be at least 1, got 0"),
    ("Local", {"window": 0}, "window must be at least 1, got 0"),
    ("Pooling", {"points": 0}, "points must be at least 1, got 0"),
    ("Inducing", {"points": 0}, "points must be at least 1, got 0"),
    ("Nystrom", {"landmarks": 0}, "landmarks must be at least 1, got 0"),
    ("Nystrom", {"iterations": 0}, "iterations must be at least 1, got 0"),
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


def key_mask() -> torch.Tensor:
    """Hide other keys in either of two batch elements, ``(2, 1, 1, 11)``."""
    mask = torch.ones(2, 1, 1, 11, dtype=torch.bool)
    mask[0, ..., [1, 4, 10]] = False
    mask[1, ..., 6:] = False
    return mask


def query_mask(queries: int, keys: int) -> torch.Tensor:
    """Hide keys by element, head and query, and the last two from all, ``(2, HEADS, queries, keys)``."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.rand(2, HEADS, queries, keys, generator=generator) > 0.3
    mask |= torch.eye(queries, keys, dtype=torch.bool)
    mask[..., -2:] = False
    return mask
