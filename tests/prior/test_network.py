"""Laws of the in-context classifier: what its predictions depend on."""

from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from tabattn.attention import MECHANISMS, Local
from tabattn.prior import NETWORKS
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.network import PriorNetwork

Network = TypeVar("Network", bound=ContextClassifier)
SIZES: dict[str, Any] = {"dim": 16, "heads": 2, "hidden": 24, "layers": 3, "classes": 3}


def awake(network: Network) -> Network:
    """Move every weight away from its initial zeros, so that each path carries something."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def table(rows: int = 12, features: int = 5, batch: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, rows, features), torch.randint(0, 3, (batch, rows))


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> ContextClassifier:
    return awake(NETWORKS[request.param](**SIZES))


def test_answers_every_target_row(network: ContextClassifier) -> None:
    x, y = table()
    assert network(x, y, 8).shape == (2, 4, 3)


def test_labels_of_target_rows_are_not_read(network: ContextClassifier) -> None:
    x, y = table()
    other = y.clone()
    other[:, 8:] = (other[:, 8:] + 1) % 3
    torch.testing.assert_close(network(x, y, 8), network(x, other, 8), rtol=0, atol=0)


def test_labels_of_context_rows_are_read(network: ContextClassifier) -> None:
    x, y = table()
    other = y.clone()
    other[:, 0] = (other[:, 0] + 1) % 3
    assert (network(x, y, 8) - network(x, other, 8)).abs().amax() > 1e-4


def test_target_rows_do_not_influence_one_another(network: ContextClassifier) -> None:
    x, y = table()
    alone = torch.cat([network(torch.cat([x[:, :8], x[:, i : i + 1]], dim=1), y, 8) for i in range(8, 12)], dim=1)
    torch.testing.assert_close(network(x, y, 8), alone, rtol=1e-4, atol=1e-5)


def test_order_of_context_rows_does_not_matter(network: ContextClassifier) -> None:
    x, y = table()
    order = torch.cat([torch.randperm(8), torch.arange(8, 12)])
    torch.testing.assert_close(network(x, y, 8), network(x[:, order], y[:, order], 8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("group", [1, 3])
def test_order_of_columns_matters_only_to_feature_groups(group: int) -> None:
    network = awake(PriorNetwork(**SIZES, feature_group=group))
    x, y = table()
    gap = (network(x, y, 8) - network(x[:, :, torch.tensor([1, 0, 2, 4, 3])], y, 8)).abs().amax()
    assert (gap < 1e-4) == (group == 1)


@pytest.mark.parametrize("mechanism", [name for name, cls in MECHANISMS.items() if not cls.cross])
def test_padding_columns_are_refused_where_columns_have_places(mechanism: str) -> None:
    network = PriorNetwork(**SIZES, feature_attention=MECHANISMS[mechanism])
    x, y = table()
    with pytest.raises(ValueError, match=f"cannot share a batch with feature_attention {mechanism}"):
        network(x, y, 8, columns=torch.tensor([5, 3]))


@pytest.mark.parametrize("mechanism", [name for name, cls in MECHANISMS.items() if cls.cross])
def test_padding_columns_change_nothing(mechanism: str) -> None:
    network = awake(PriorNetwork(**SIZES, feature_attention=MECHANISMS[mechanism]))
    x, y = table()
    padded = torch.cat([x, torch.randn(2, 12, 3)], dim=2)
    given = network(padded, y, 8, columns=torch.tensor([5, 5]))
    torch.testing.assert_close(network(x, y, 8), given, rtol=1e-4, atol=1e-5)


def test_tables_of_unequal_width_share_a_batch() -> None:
    network = awake(PriorNetwork(**SIZES))
    x, y = table()
    both = network(x, y, 8, columns=torch.tensor([5, 3]))
    torch.testing.assert_close(both[1:], network(x[1:, :, :3], y[1:], 8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_decoding_equals_the_joint_forward(mechanism: str, name: str) -> None:
    network = awake(NETWORKS[name](**SIZES, attention=MECHANISMS[mechanism]))
    x, y = table()
    cache = network.prefill(x[:, :8], y[:, :8])
    torch.testing.assert_close(network.decode(x[:, 8:], cache), network(x, y, 8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(mechanism: str, name: str) -> None:
    network = awake(NETWORKS[name](**SIZES, attention=MECHANISMS[mechanism])).train()
    x, y = table()
    torch.nn.functional.cross_entropy(network(x, y, 8).flatten(0, 1), y[:, 8:].flatten()).backward()
    silent = [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.any() or not torch.isfinite(p.grad).all()
    ]
    assert silent == []


def test_the_default_network_has_sixteen_thinking_rows_and_groups_of_three() -> None:
    shapes = [
        {name: weight.shape for name, weight in PriorNetwork(**SIZES, **arguments).state_dict().items()}
        for arguments in ({}, {"thinking_rows": 16, "feature_group": 3})
    ]
    assert shapes[0] == shapes[1]


def test_one_layer_is_enough_for_mechanisms_that_answer_target_rows() -> None:
    x, y = table()
    assert PriorNetwork(**{**SIZES, "layers": 1})(x, y, 8).shape == (2, 4, 3)


@pytest.mark.parametrize(("arguments", "message"), [({"layers": 0}, "layers"), ({"classes": 0}, "classes")])
def test_bad_sizes_of_the_original_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message} must be at least 1, got 0"):
        NanoTabPFN(**{**SIZES, **arguments})


def test_one_layer_of_the_original_has_no_use_for_an_attention_between_context_rows() -> None:
    with pytest.raises(ValueError, match="layers must be at least 2 for attention Local, got 1"):
        NanoTabPFN(Local, **{**SIZES, "layers": 1})


def test_missing_infinite_and_constant_cells_give_finite_predictions() -> None:
    """Missing, infinite and constant cells, and a single context row, give finite answers."""
    network = awake(PriorNetwork(**SIZES))
    x, y = table()
    x[:, :, 0] = 0.3
    x[:, :, 1] = torch.nan
    x[0, 3, 2] = torch.inf
    x[:, 8:, 3] = torch.nan
    assert torch.isfinite(network(x, y, 8)).all()
    assert torch.isfinite(network(x, y, 1)).all()


def test_constant_columns_have_no_influence() -> None:
    network = awake(PriorNetwork(**SIZES))
    x, y = table()
    x[:, :, 0] = 0.3
    other = x.clone()
    other[:, 8:, 0] = 123.0
    torch.testing.assert_close(network(x, y, 8), network(other, y, 8), rtol=0, atol=0)


def test_scale_and_shift_of_a_column_do_not_matter() -> None:
    network = awake(PriorNetwork(**SIZES))
    x, y = table()
    torch.testing.assert_close(network(x, y, 8), network(1e-7 * x + 1e-7, y, 8), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(network(x, y, 8), network(1e6 * x, y, 8), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"classes": 0}, "classes must be at least 1, got 0"),
        ({"feature_group": 0}, "feature_group must be at least 1, got 0"),
        ({"thinking_rows": -1}, "thinking_rows must be at least 0, got -1"),
        ({"heads": 3}, "dim must be a multiple of heads, got dim 16 and heads 3"),
        ({"layers": 1, "attention": Local}, "layers must be at least 2 for attention Local, got 1"),
    ],
)
def test_bad_sizes_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriorNetwork(**{**SIZES, **arguments})


@pytest.mark.parametrize("context", [0, 13])
def test_bad_context_is_refused(context: int) -> None:
    x, y = table()
    with pytest.raises(ValueError, match=f"between 1 and the number of rows \\(12\\), got {context}"):
        PriorNetwork(**SIZES)(x, y, context)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["dim", "hidden", "layers", "classes"])
@pytest.mark.parametrize("size", [0, -4])
def test_sizes_below_one_are_refused(network: str, name: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, got {size}$"):
        NETWORKS[network](**{"dim": 8, "hidden": 8, "heads": 2, "layers": 1, "classes": 3, name: size})
