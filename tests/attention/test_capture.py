import pytest
import torch
from torch import Tensor, nn

from tabattn.attention import MECHANISMS, Entmax, Local, Mechanism, Record, Softmax, capture
from tabattn.nn.multihead import MultiheadAttention

close = torch.testing.assert_close
DIM, HEADS = 8, 2


class Net(nn.Module):
    """Two layers, the second called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MultiheadAttention(DIM, HEADS, lambda *size: Softmax(*size, dropout=0.3))
        self.second = MultiheadAttention(DIM, HEADS, lambda *size: Entmax(*size, dropout=0.3, learn_alpha=True))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.second(self.second(self.first(x, mask=mask)), mask=mask)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(10, 5, DIM, generator=torch.Generator().manual_seed(1))


def test_one_record_for_each_call_under_its_path(net, x):
    with capture(net) as records:
        net(x)
        net(x)
    assert {path: len(calls) for path, calls in records.items()} == {"first.mechanism": 2, "second.mechanism": 4}
    record = records["first.mechanism"][0]
    assert record.weights.shape == (8, HEADS, 5, 5)
    assert record[1:] == (None, None, None, None)
    assert record.weights.device.type == "cpu"
    assert not record.weights.requires_grad


def test_kept_parts_belong_together(net, x):
    mask = torch.rand(10, 1, 1, 5) > 0.2
    with capture(net, keep=("weights", "q", "k", "mask"), items=3) as records:
        net(x, mask)
    for path in records:
        record = records[path][0]
        assert record.q.shape == record.k.shape == (3, HEADS, 5, DIM // HEADS)
        weights = net.get_submodule(path).weights(record.q, record.k, record.mask)
        close(record.weights, weights, atol=0, rtol=0)
    assert torch.equal(records["first.mechanism"][0].mask, mask[:3])
    assert records["second.mechanism"][0].mask is None


def test_map_is_the_one_that_made_the_output(x):
    torch.manual_seed(0)
    layer = MultiheadAttention(DIM, HEADS, lambda *size: Local(*size, window=1)).eval()
    with capture(layer, items=None) as records:
        out = layer(x)
    _, values = layer.keys_values(x)
    close(layer.out(layer.merge(records["mechanism"][0].weights @ values)), out)


def test_training_stays_bit_identical(net, x):
    def step(look: bool) -> list[Tensor]:
        torch.manual_seed(3)
        net.zero_grad()
        if look:
            with capture(net, keep=Record._fields):
                out = net(x)
        else:
            out = net(x)
        out.square().sum().backward()
        return [out, torch.get_rng_state(), *(p.grad.clone() for p in net.parameters())]

    net.train()
    for plain, looked in zip(step(False), step(True), strict=True):
        assert torch.equal(plain, looked)
    assert net.first.mechanism.training


def test_hooks_are_gone_after_an_error(net, x):
    with pytest.raises(RuntimeError), capture(net) as records:
        net(x[..., :-1])
    net(x)
    assert records["first.mechanism"] == []
    assert all(not module._forward_hooks for module in net.modules())


def test_masks_and_arguments_by_name(net, x):
    mechanism = Softmax(HEADS, DIM // HEADS)
    q = torch.randn(4, HEADS, 3, DIM // HEADS)
    k = torch.randn(4, HEADS, 5, DIM // HEADS)
    seen = torch.arange(5) < 3
    with capture(mechanism, keep=("weights", "mask"), items=2) as records:
        mechanism(q=q, k=k, v=k, mask=seen)
        mechanism(q, k, k, mask=seen)
    first, second = records[""]
    assert torch.equal(first.weights, second.weights)
    assert first.mask.shape == (1, 1, 1, 5)
    assert first.weights[..., 3:].eq(0).all()


def test_records_do_not_change_with_the_model(net, x):
    with capture(net, keep=("q",)) as records:
        net(x)
    q = records["first.mechanism"][0].q
    assert q.untyped_storage().nbytes() == q.nbytes


def test_records_hold_no_graph(net, x):
    with capture(net, keep=("weights", "q", "k")) as records:
        net(x)
    for calls in records.values():
        for record in calls:
            assert not any(part.requires_grad for part in (record.weights, record.q, record.k))


def test_a_mechanism_inside_a_mechanism_is_recorded_once_for_each_call(x):
    class Outer(Mechanism):
        def __init__(self, heads: int, head_dim: int) -> None:
            super().__init__(heads, head_dim)
            self.inner = Softmax(heads, head_dim)

        def forward(self, q, k, v, mask=None):
            return self.inner(q, k, v, mask)

    layer = MultiheadAttention(DIM, HEADS, Outer)
    with capture(layer) as records:
        layer(x)
    assert {path: len(calls) for path, calls in records.items()} == {"mechanism": 1, "mechanism.inner": 1}


def test_wrong_arguments_are_refused(net):
    for arguments, message in (
        ({"keep": ("weights", "o")}, "keep must name some of weights, q, k, mask, v, got o"),
        ({"items": 0}, "items must be at least 1 or None, got 0"),
    ):
        with pytest.raises(ValueError, match=message), capture(net, **arguments):
            pass
    with pytest.raises(ValueError, match="Linear holds no attention mechanism"), capture(nn.Linear(1, 1)):
        pass


def test_items_may_be_numbers_by_path(net, x):
    mask = torch.rand(10, 1, 1, 5) > 0.2
    keep = ("weights", "q", "mask")
    with capture(net, keep, items=None) as whole, capture(net, keep, {"first.mechanism": [7, 2]}) as records:
        net.eval()(x, mask)
    assert list(records) == ["first.mechanism"]
    (record,), (full,) = records["first.mechanism"], whole["first.mechanism"]
    for part, of in ((record.weights, full.weights), (record.q, full.q), (record.mask, full.mask)):
        close(part, of[[7, 2]])
    with pytest.raises(ValueError, match="items must name mechanisms of Net, got third"):
        capture(net, items={"third": [0]}).__enter__()


@pytest.mark.parametrize("name", list(MECHANISMS))
def test_long_maps_are_computed_in_parts(name, monkeypatch):
    torch.manual_seed(0)
    made = MECHANISMS[name](HEADS, 4).eval()
    q, k = torch.randn(2, 1, HEADS, 11, 4)
    mask = torch.arange(11) != 3
    whole = made.weights(q, k, mask)
    monkeypatch.setattr("tabattn.attention.mechanism.KEYS_AT_ONCE", 4)
    close(made.weights(q, k, mask), whole)
