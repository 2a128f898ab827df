"""Laws of networks of sequence pairs with a distance bias."""

import pytest
import torch

from tabattn.attention import MECHANISMS, Entmax
from tabattn.contract.batches import Scaling
from tabattn.pairs import TNPD, PairNetwork, SeedNetwork, TokenOptions
from tabattn.pairs.tokens import WaveFeatures
from tests.pairs.cases import apart, awake, built, close, numbers, task

every_arch = pytest.mark.parametrize("arch", ["TNPD", "TNPA"])
every_way = pytest.mark.parametrize("relative", [False, True])
every_residual = pytest.mark.parametrize("residual", ["none", "nearest"])


def biased(arch: str = "TNPD", **own: object) -> PairNetwork:
    return awake(arch, distances=4, **own)


def test_wavelengths_go_from_twice_the_axis_to_a_sixteenth_of_it() -> None:
    assert WaveFeatures(0)(torch.zeros(2, 3)).shape == (2, 3, 0)
    features = WaveFeatures(6).double()
    x = torch.rand(5, dtype=torch.float64)
    for wave, length in enumerate([8.0, 4.0, 2.0, 1.0, 0.5, 0.25]):
        cosine, sine = (features(x + length)[:, part] for part in (wave, 6 + wave))
        torch.testing.assert_close(cosine, features(x)[:, wave])
        torch.testing.assert_close(cosine.square() + sine.square(), torch.ones_like(x))
        assert features(x + length / 2)[:, wave].allclose(-cosine)


@every_arch
@every_residual
@every_way
def test_where_tokens_have_no_location_a_shift_of_all_changes_nothing(arch: str, residual: str, relative: bool) -> None:
    network = biased(arch, fourier=None, residual=residual, relative=relative)
    x, y, member, context = task()
    for shift in (0.3, -1.7, 25.0):
        moved = x + shift
        for of in (network, network.chain):
            torch.testing.assert_close(
                numbers(of(moved, y, member, context)), numbers(of(x, y, member, context)), rtol=1e-3, atol=1e-3
            )
    one = x.clone()
    one[:, 0] += 0.3
    assert apart(network(one, y, member, context), network(x, y, member, context)).amin() > 1e-4


@every_arch
def test_where_tokens_have_locations_a_shift_matters(arch: str) -> None:
    network, (x, y, member, context) = biased(arch), task()
    assert apart(network(x + 0.3, y, member, context), network(x, y, member, context)).amin() > 1e-3


@every_arch
def test_a_mirrored_axis_changes_nothing_where_only_distances_count(arch: str) -> None:
    network, (x, y, member, context) = biased(arch, fourier=None), task()
    close(network(-x, y, member, context), network(x, y, member, context))
    network = biased(arch, fourier=None, relative=True)
    assert apart(network(-x, y, member, context), network(x, y, member, context)).amin() > 1e-3


@every_arch
@every_way
def test_order_of_the_context_does_not_matter(arch: str, relative: bool) -> None:
    network, (x, y, member, context) = biased(arch, relative=relative), task()
    order = torch.cat([torch.randperm(context), torch.arange(context, 12)])
    close(network(x, y, member, context), network(x[:, order], y[:, order], member[:, order], context))


@every_arch
@every_residual
@pytest.mark.parametrize("attention", ["Softmax", "Entmax"])
@every_way
def test_chain_is_step_by_step_prediction(arch: str, residual: str, attention: str, relative: bool) -> None:
    network = biased(arch, residual=residual, attention=MECHANISMS[attention], relative=relative)
    x, y, member, context = task()
    y[0, 2] = float("nan")
    sampler, chain = network.sampler(x, y, member, context), network.chain(x, y, member, context)
    for step in range(5):
        at = context + step
        close_step = sampler.step(x[:, at], member[:, at])
        torch.testing.assert_close(close_step.mean, chain.mean[:, step], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(close_step.stddev, chain.stddev[:, step], rtol=1e-4, atol=1e-5)
        sampler.append(y[:, at])


@every_arch
@every_way
def test_an_empty_context_and_absent_points_are_the_same(arch: str, relative: bool) -> None:
    network, (x, y, member, context) = biased(arch, relative=relative), task()
    nothing = network(x[:, context:], y[:, :0], member[:, context:], 0)
    assert numbers(nothing).isfinite().all()
    close(nothing, network(x, torch.full_like(y, torch.nan), member, context))


@every_arch
@pytest.mark.parametrize("attention", [name for name in MECHANISMS if MECHANISMS[name].query_masks])
@pytest.mark.parametrize("fourier", [None, 2])
def test_every_parameter_learns(arch: str, attention: str, fourier: int | None) -> None:
    own = {"attention": MECHANISMS[attention], "fourier": fourier, "relative": fourier is None}
    if attention == "Pooling":
        with pytest.raises(ValueError, match="needs a mechanism that reads its keys, Pooling does not"):
            biased(arch, **own)
        return
    network = biased(arch, **own, **({} if MECHANISMS[attention].cross else {"target_attention": Entmax}))
    x, y, member, context = task(batch=4)
    (-network.train().density(x, y, member, context).log_prob(y[:, context:]).mean()).backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert sum("amplitude" in name for name in gradients) == 3
    assert [
        name for name, grad in gradients.items() if grad is None or not grad.any() or not grad.isfinite().all()
    ] == []


@every_arch
def test_weights_of_a_network_without_the_bias_go_on_with_it(arch: str) -> None:
    plain, given = awake(arch), task()
    assert not any("bias.amplitude" in name for name in plain.state_dict())
    added = built(arch, tokens=TokenOptions(distances=5)).eval()
    lacking, unknown = added.load_state_dict(plain.state_dict(), strict=False)
    assert lacking == [f"blocks.{layer}.rows.bias.amplitude" for layer in range(3)]
    assert unknown == []
    close(added(*given), plain(*given))


def test_the_bias_follows_the_units_of_the_data() -> None:
    network, (x, y, member, context) = biased(fourier=None), task()
    plain = network(x, y, member, context)
    network.scale(Scaling(x_low=98.0, x_high=106.0, y_mean=-7.0, y_std=3.0))
    given = network(102 + 2 * x, 3 * y - 7, member, context)
    torch.testing.assert_close(given.mean, 3 * plain.mean - 7, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distances": -1}, "distances must be at least 0, got -1"),
        ({"relative": True}, "distances must be at least 1 where relative is true, .* got 0"),
        ({"fourier": None}, "distances must be at least 1 where fourier is none: .* got 0"),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, int | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TNPD(tokens=TokenOptions(**arguments))


@pytest.mark.parametrize("tokens", [TokenOptions(distances=2), TokenOptions(distances=2, fourier=None)])
def test_the_seed_network_has_no_bias(tokens: TokenOptions) -> None:
    with pytest.raises(ValueError, match=f"distances 0, got {tokens.fourier} and 2"):
        SeedNetwork(tokens=tokens)
