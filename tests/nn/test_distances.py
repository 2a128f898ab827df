"""Laws of the distance bias: what it adds to scores, and which mechanisms and blocks take it."""

from functools import partial
from math import pi
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from tabattn.attention import MECHANISMS, Softmax
from tabattn.nn.block import Block, row_block, table_block
from tabattn.nn.cache import KVCache
from tabattn.nn.distances import DistanceBias, rotated
from tabattn.nn.rows import RowAttention
from tabattn.prior.nanotabpfn import SplitRowAttention

DIM, HEADS, WAVES = 8, 2, 3
LENGTHS = torch.tensor([8.0, 1.5, 0.25])
close = torch.testing.assert_close
M = TypeVar("M", bound=nn.Module)


def features(x: Tensor) -> Tensor:
    angle = 2 * pi * x[..., None] / LENGTHS.to(x.dtype)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def rows(count: int = 9, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Tokens and location features."""
    return torch.randn(batch, count, DIM), features(4 * torch.rand(batch, count) - 2)


def shaken(module: M) -> M:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return module


def test_heads_add_a_cosine_series_of_the_distance_to_their_scores() -> None:
    bias = shaken(DistanceBias(HEADS, 4, WAVES)).double()
    q, k = torch.randn(2, HEADS, 5, 4, dtype=torch.float64), torch.randn(2, HEADS, 7, 4, dtype=torch.float64)
    at_q, at_k = 4 * torch.rand(2, 5, dtype=torch.float64) - 2, 4 * torch.rand(2, 7, dtype=torch.float64) - 2
    waves = torch.cos(2 * pi * (at_q[:, None, :, None] - at_k[:, None, None])[..., None] / LENGTHS.double())
    added = (waves * bias.amplitude[:, None, None]).sum(-1)
    expected = (q @ k.mT / 4**0.5 + added).softmax(-1)
    wide = Softmax(HEADS, 4 + 2 * WAVES).weights(bias.queries(q, features(at_q)), bias.keys(k, features(at_k)))
    close(wide, expected)


@pytest.mark.parametrize("mechanism", [name for name in MECHANISMS if name != "Pooling"])
@pytest.mark.parametrize("readout", [False, True])
def test_every_mechanism_that_reads_keys_learns_the_bias(mechanism: str, readout: bool) -> None:
    layer = shaken(RowAttention(DIM, HEADS, MECHANISMS[mechanism], readout=readout, waves=WAVES)).eval()
    x, locations = rows()
    out = layer(x, 6, locations=locations)
    assert out.shape == (2, 3 if readout else 9, DIM)
    out.square().sum().backward()
    assert layer.bias is not None
    gradient = layer.bias.amplitude.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.ne(0).all()
    moved = layer(x, 6, locations=features(4 * torch.rand(2, 9) - 2))
    assert (moved - out).abs().amax() > 1e-3


@pytest.mark.parametrize(
    "arguments", [{"attention": MECHANISMS["Pooling"]}, {"target_attention": MECHANISMS["Pooling"]}]
)
def test_a_mechanism_that_does_not_read_its_keys_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a distance bias needs a mechanism that reads its keys, Pooling does not"):
        RowAttention(DIM, HEADS, **{"attention": Softmax, **arguments}, waves=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", ["Softmax", "Scratch", "Entmax", "Local", "TopK"])
def test_at_first_nothing_is_added(mechanism: str) -> None:
    plain = RowAttention(DIM, HEADS, MECHANISMS[mechanism])
    biased = RowAttention(DIM, HEADS, MECHANISMS[mechanism], waves=WAVES)
    lacking, unknown = biased.load_state_dict(plain.state_dict(), strict=False)
    assert (lacking, unknown) == (["bias.amplitude"], [])
    x, locations = rows()
    close(plain.eval()(x, 6), biased.eval()(x, 6, locations=locations))


@pytest.mark.parametrize("relative", [False, True])
def test_readout_and_cache_change_nothing(relative: bool) -> None:
    whole = shaken(RowAttention(DIM, HEADS, Softmax, waves=WAVES, relative=relative))
    last = RowAttention(DIM, HEADS, Softmax, readout=True, waves=WAVES, relative=relative)
    last.load_state_dict(whole.state_dict())
    x, locations = rows()
    expected = whole(x, 6, locations=locations)
    close(last(x, 6, locations=locations), expected[:, 6:])
    cache = KVCache()
    close(whole(x[:, :6], cache=cache, locations=locations[:, :6]), expected[:, :6])
    close(whole(x[:, 6:], 0, cache=cache, locations=locations[:, 6:]), expected[:, 6:])


def test_a_bias_is_computed_in_the_precision_of_the_layers() -> None:
    layer = shaken(RowAttention(DIM, HEADS, Softmax, waves=WAVES))
    x, locations = rows()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x, 6, locations=locations)
    assert out.dtype == torch.bfloat16
    close(out.float(), layer(x, 6, locations=locations), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(("waves", "given", "got"), [(3, None, 0), (3, 2, 4), (0, 1, 2)])
def test_features_of_another_number_of_waves_are_refused(waves: int, given: int | None, got: int) -> None:
    block = row_block(DIM, HEADS, 8, waves=waves)
    locations = None if given is None else torch.zeros(2, 9, 2 * given)
    with pytest.raises(ValueError, match=f"locations must have 2 features for each of {waves} waves, got {got}"):
        block(rows()[0], 6, locations=locations)


def test_locations_are_refused_where_nothing_reads_them() -> None:
    x, locations = rows()
    with pytest.raises(ValueError, match="locations must be None for tables"):
        table_block(DIM, HEADS, 8)(x[:, :, None], 6, locations=locations)
    split = Block(DIM, SplitRowAttention(DIM, HEADS, partial(Softmax)), nn.Sequential(nn.Identity()))
    with pytest.raises(ValueError, match="locations need a RowAttention, got SplitRowAttention"):
        split(x, 6, locations=locations)


def weighted(weights: Tensor, v: Tensor, at_q: Tensor, at_k: Tensor) -> Tensor:
    """Values mixed with rotation."""
    return rotated(weights @ rotated(v, features(at_k)), features(at_q), back=True)


def test_values_arrive_rotated_by_the_difference_of_locations() -> None:
    weights, v = torch.rand(1, HEADS, 1, 1, dtype=torch.float64), torch.randn(1, HEADS, 1, 7, dtype=torch.float64)
    at_q, at_k = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[-1.1]], dtype=torch.float64)
    out = weighted(weights, v, at_q, at_k)[0, 0, 0] / weights[0, 0]
    for pair, length in enumerate(LENGTHS.tolist()):
        angle = torch.tensor(2 * pi * (-1.1 - 0.3) / length, dtype=torch.float64)
        first, second = v[0, 0, 0, pair], v[0, 0, 0, 3 + pair]
        close(out[0, pair], first * angle.cos() - second * angle.sin())
        close(out[0, 3 + pair], first * angle.sin() + second * angle.cos())
    close(out[0, 6], v[0, 0, 0, 6])


@pytest.mark.parametrize("width", [1, 2, 4, 10])
def test_rotation_keeps_lengths_for_any_width_and_number_of_waves(width: int) -> None:
    v, at = torch.randn(2, HEADS, 5, width), features(torch.rand(2, 5))
    turned = rotated(v, at)
    close(turned.norm(dim=-1), v.norm(dim=-1))
    close(rotated(turned, at, back=True), v)
    assert turned.equal(v) == (width == 1)


@pytest.mark.parametrize("mechanism", [name for name in MECHANISMS if name != "Pooling"])
@pytest.mark.parametrize("readout", [False, True])
def test_relative_values_do_not_change_where_all_locations_shift(mechanism: str, readout: bool) -> None:
    """Mechanisms whose own parameters or feature maps meet location features alone are exempt."""
    if mechanism in ("Inducing", "Linear"):
        return
    arguments = {"readout": readout, "waves": WAVES, "relative": True}
    layer = shaken(RowAttention(DIM, HEADS, MECHANISMS[mechanism], **arguments)).eval()
    x, at = torch.randn(2, 9, DIM), 4 * torch.rand(2, 9) - 2
    out = layer(x, 6, locations=features(at))
    close(layer(x, 6, locations=features(at + 0.7)), out, atol=1e-4, rtol=1e-3)
    plain = shaken(RowAttention(DIM, HEADS, MECHANISMS[mechanism], **{**arguments, "relative": False})).eval()
    plain.load_state_dict(layer.state_dict())
    assert (plain(x, 6, locations=features(at)) - out).abs().amax() > 1e-3


def test_relative_values_need_wavelengths() -> None:
    with pytest.raises(ValueError, match="waves must be at least 1 where values are relative, got 0"):
        row_block(DIM, HEADS, 8, relative=True)
