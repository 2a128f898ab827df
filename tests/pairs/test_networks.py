"""Laws of the networks of sequence pairs: what a density depends on."""

from itertools import product

import pytest
import torch
from torch.distributions import MixtureSameFamily, Normal

from tabattn.attention import MECHANISMS, TopK
from tabattn.contract.batches import Scaling
from tabattn.pairs import NETWORKS
from tests.pairs.cases import CENTRED, NORMS, Task, apart, awake, built, close, numbers, task

NAN = float("nan")
every_arch = pytest.mark.parametrize("arch", NETWORKS)
every_residual = pytest.mark.parametrize(
    ("arch", "options"),
    [
        (name, {"residual": residual, **centred})
        for name, network in NETWORKS.items()
        for residual, centred in product(network.residuals, CENTRED[name])
    ],
    ids=str,
)
CROSS = [name for name, cls in MECHANISMS.items() if cls.cross]


def padded(given: Task, at: int = 3) -> Task:
    """The same task with two context points that are not there, and nonsense in their places."""
    x, y, member, context = given
    gap = x.new_full((len(x), 2), NAN)
    x, y, member = (
        torch.cat([part[:, :at], fill, part[:, at:]], dim=1)
        for part, fill in ((x, gap), (y, gap), (member, gap.nan_to_num(99).long()))
    )
    return Task(x, y, member, context + 2)


@every_arch
@pytest.mark.parametrize("components", [1, 3])
def test_a_density_for_every_target(arch: str, components: int) -> None:
    given = awake(arch, components=components)(*task())
    assert given.batch_shape == (2, 5)
    assert isinstance(given, Normal if components == 1 else MixtureSameFamily)
    assert given.sample().shape == given.log_prob(torch.zeros(2, 5)).shape == (2, 5)


@every_arch
def test_values_of_targets_are_not_read(arch: str) -> None:
    network, (x, y, member, context) = awake(arch), task()
    y.requires_grad_()
    given = network(x, y, member, context)
    grad = torch.autograd.grad(numbers(given).square().sum(), y)[0]
    assert not grad[:, context:].any()
    assert grad[:, :context].all()
    close(given, network(x, y[:, :context], member, context))


@every_arch
def test_targets_do_not_influence_one_another(arch: str) -> None:
    network, (x, y, member, context) = awake(arch), task()
    other_x, other_member = x.clone(), member.clone()
    other_x[:, 9] += 0.5
    other_member[:, 9] = (member[:, 9] + 1) % 3
    for changed in ((other_x, y, member), (x, y, other_member)):
        differs = apart(network(x, y, member, context), network(*changed, context)) > 1e-4
        assert differs.tolist() == [False, False, True, False, False]


@every_arch
def test_order_of_the_context_does_not_matter(arch: str) -> None:
    """But for which point is the last, whose value the seed network adds."""
    network, (x, y, member, context) = awake(arch), task()
    order = torch.cat([torch.randperm(6), torch.arange(6, 12)])
    close(network(x, y, member, context), network(x[:, order], y[:, order], member[:, order], context))


@every_residual
def test_absent_points_change_nothing(arch: str, options: dict[str, object]) -> None:
    network, given = awake(arch, **options), task()
    gaps = padded(given)
    grads = []
    for each in (given, gaps):
        network.zero_grad()
        numbers(network(*each)).square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    close(network(*given), network(*gaps))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mechanism", CROSS)
def test_absent_points_change_nothing_for_mechanisms_without_places(mechanism: str) -> None:
    network, given = awake(attention=MECHANISMS[mechanism]), task(30, 20)
    close(network(*given), network(*padded(given)))


@every_residual
def test_an_empty_context_gives_finite_densities(arch: str, options: dict[str, object]) -> None:
    network, (x, y, member, context) = awake(arch, **options), task()
    nothing = network(x[:, context:], y[:, :0], member[:, context:], 0)
    assert numbers(nothing).isfinite().all()
    close(nothing, network(x, torch.full_like(y, NAN), member, context))


@every_residual
@pytest.mark.parametrize("components", [1, 3])
def test_answers_follow_the_units_of_the_data(arch: str, options: dict[str, object], components: int) -> None:
    network, (x, y, member, context) = awake(arch, **options, components=components), task()
    plain = network(x, y, member, context)
    network.scale(Scaling(x_low=98.0, x_high=102.0, y_mean=-7.0, y_std=3.0))
    given = network(100 + x, 3 * y - 7, member, context)
    torch.testing.assert_close(given.mean, 3 * plain.mean - 7, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(given.stddev, 3 * plain.stddev, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arch", ["TNPD", "TNPA"])
@pytest.mark.parametrize("embed", ["one_hot", "learned", "hidden"])
def test_hidden_labels_of_the_context_are_not_read(arch: str, embed: str) -> None:
    network, (x, y, member, context) = awake(arch, member_embed=embed), task()
    other = member.clone()
    other[:, :context] = (other[:, :context] + 1) % 3
    gap = apart(network(x, y, member, context), network(x, y, other, context))
    assert (gap.amax() < 1e-6) == (embed == "hidden")
    other = member.clone()
    other[:, context:] = (other[:, context:] + 1) % 3
    assert apart(network(x, y, member, context), network(x, y, other, context)).amin() > 1e-4


def test_the_seed_network_ignores_members_of_the_context() -> None:
    network, (x, y, member, context) = awake("SeedNetwork"), task()
    other = member.clone()
    other[:, :context] = (other[:, :context] + 1) % 3
    close(network(x, y, member, context), network(x, y, other, context))


@every_arch
def test_before_training_nearest_answers_with_the_nearest_value_of_the_sequence(arch: str) -> None:
    network, (x, y, member, context) = built(arch, residual="nearest"), task(20, 9)
    network.scale(Scaling(y_mean=0.7, y_std=2.0))
    y[0, 2] = NAN
    member[1, 10], member[1, :context] = 2, 1
    for densities, chained in ((network(x, y, member, context), False), (network.chain(x, y, member, context), True)):
        for b in range(2):
            for i in range(context, 20):
                own = [
                    j for j in range(i if chained else context) if member[b, j] == member[b, i] and y[b, j] == y[b, j]
                ]
                near = y[b, min(own, key=lambda j: abs(x[b, j] - x[b, i]))] if own else torch.tensor(0.7)
                torch.testing.assert_close(densities.mean[b, i - context], near)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("arch", NETWORKS)
def test_every_parameter_learns_or_the_mechanism_is_refused(arch: str, mechanism: str) -> None:
    choice = {"attention": MECHANISMS[mechanism], "components": 2}
    if MECHANISMS[mechanism].cross and not MECHANISMS[mechanism].query_masks and arch in ("TNPA", "SeedNetwork"):
        with pytest.raises(ValueError, match=f"{arch} needs .* a row for each query, {mechanism} cannot take one"):
            awake(arch, **choice)
        return
    if arch == "SeedNetwork" and not MECHANISMS[mechanism].cross:
        with pytest.raises(ValueError, match=f"SeedNetwork needs .* queries from outside, got {mechanism}"):
            awake(arch, **choice)
        return
    for embed, centred, norm in product(("one_hot", "learned"), CENTRED[arch], NORMS[arch]):
        network = awake(arch, **choice, member_embed=embed, **centred, **norm).train()
        for given in (task(batch=4), padded(task(batch=4))):
            network.zero_grad()
            y = given.y[:, given.context :]
            (-network.density(*given).log_prob(y).mean()).backward()
            silent = [
                name
                for name, p in network.named_parameters()
                if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()
            ]
            assert silent == []


@pytest.mark.parametrize("mechanism", ["Inducing", "Linear", "Local"])
def test_a_target_attention_makes_any_mechanism_fit_a_chain(mechanism: str) -> None:
    network = awake("TNPA", attention=MECHANISMS[mechanism], target_attention=TopK)
    assert numbers(network.density(*task())).isfinite().all()


@every_arch
def test_weights_and_units_survive_in_the_state(arch: str) -> None:
    network, given = awake(arch), task()
    network.scale(Scaling(-3.0, 3.0, 0.5, 2.0))
    other = built(arch).eval()
    other.load_state_dict(network.state_dict())
    assert numbers(network(*given)).equal(numbers(other(*given)))
    assert other.scaling == Scaling(-3.0, 3.0, 0.5, 2.0)


def test_gradients_are_those_of_the_function() -> None:
    network = awake(residual="none", layers=2, components=2).double()
    x, y, member, context = task(6, 4)

    def score(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return network(x, y, member, context).log_prob(torch.zeros(2, 2, dtype=torch.float64))

    assert torch.autograd.gradcheck(score, (x.double().requires_grad_(), y.double().requires_grad_()))


def test_complete_data_need_not_be_looked_through_in_training() -> None:
    network = awake().train()
    x, y, member = torch.rand(2, 6), torch.randn(2, 6), torch.randint(2, (2, 6))
    expected = network(x, y, member, 4).mean
    network.complete = True
    torch.testing.assert_close(network(x, y, member, 4).mean, expected, rtol=0, atol=0)
    y[0, 1] = float("nan")
    assert network(x, y, member, 4).mean[0].isnan().all()
    assert network.eval()(x, y, member, 4).mean.isfinite().all()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["dim", "hidden", "layers"])
@pytest.mark.parametrize("size", [0, -4])
def test_sizes_below_one_are_refused(network: str, name: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, got {size}$"):
        NETWORKS[network](**{"dim": 8, "hidden": 8, "heads": 2, "layers": 1, name: size})
