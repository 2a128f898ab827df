"""Laws of chains: causality, and autoregressive prediction equals a single pass."""

import pytest
import torch
from torch import Tensor

from tabattn.attention import Entmax, Local
from tabattn.pairs import NETWORKS, PairNetwork
from tests.pairs.cases import NORMS, SIZES, Task, apart, awake, close, numbers, task

NAN = float("nan")
every_arch = pytest.mark.parametrize("arch", NETWORKS)


def gradients(network: PairNetwork, out: Tensor) -> Tensor:
    network.zero_grad()
    out.square().sum().backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@every_arch
@pytest.mark.parametrize("residual", ["none", "nearest"])
def test_a_density_depends_on_the_values_before_it_alone(arch: str, residual: str) -> None:
    network, (x, y, member, context) = awake(arch, residual=residual), task()
    y.requires_grad_()
    means = network.chain(x, y, member, context).mean.sum(0)
    reads = torch.stack([torch.autograd.grad(mean, y, retain_graph=True)[0].abs().sum(0) > 0 for mean in means])
    assert reads[:, :context].all()
    assert reads[:, context:].equal(torch.ones(5, 5, dtype=torch.bool).tril(-1))


@every_arch
def test_later_locations_do_not_matter(arch: str) -> None:
    network, (x, y, member, context) = awake(arch), task()
    other = x.clone()
    other[:, 9] += 0.5
    gap = apart(network.chain(x, y, member, context), network.chain(other, y, member, context))
    assert (gap > 1e-5).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(("arch", "norm"), [(arch, norm) for arch in NETWORKS for norm in NORMS[arch]])
@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"residual": "nearest", "components": 3},
        {"attention": Entmax, "member_embed": "learned"},
        {"layers": 1},
    ],
)
@pytest.mark.parametrize("context", [0, 1, 7])
def test_autoregressive_prediction_equals_one_pass(
    arch: str, norm: dict[str, object], choice: dict[str, object], context: int
) -> None:
    """Outputs and gradients, with values that are missing in the context and on the way."""
    network, (x, y, member, _) = awake(arch, **norm, **choice), task()
    y[0, 3] = y[1, 9] = NAN
    given = Task(x, y, member, context)
    walked, at_once = PairNetwork.chain(network, *given), network.chain(*given)
    close(walked, at_once)
    one, other = gradients(network, numbers(walked)), gradients(network, numbers(at_once))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("choice", [{"attention": Local}, {"member_embed": "hidden"}])
def test_sampling_equals_one_pass_for_other_mechanisms_and_hidden_members(choice: dict[str, object]) -> None:
    network, given = awake("TNPA", **choice), task()
    close(PairNetwork.chain(network, *given), network.chain(*given))


@pytest.mark.parametrize("arch", ["TNPD", "SeedNetwork"])
def test_a_chain_is_a_growing_context(arch: str) -> None:
    network, (x, y, member, context) = awake(arch, residual="nearest"), task()
    chain = numbers(network.chain(x, y, member, context))
    for i in range(5):
        part = slice(0, context + i + 1)
        grown = numbers(network(x[:, part], y[:, part], member[:, part], context + i))
        torch.testing.assert_close(chain[:, i : i + 1], grown, rtol=1e-4, atol=1e-5)


@every_arch
def test_the_first_target_of_a_chain_reads_the_context(arch: str) -> None:
    network, given = awake(arch), task()
    first, alone = numbers(network.chain(*given))[:, 0], numbers(network(*given))[:, 0]
    torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-5)


@every_arch
def test_targets_without_value_are_predicted_and_not_read(arch: str) -> None:
    network, (x, y, member, context) = awake(arch, residual="nearest"), task()
    kept = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11])
    without = numbers(network.chain(x[:, kept], y[:, kept], member[:, kept], context))
    y[:, 9] = NAN
    given = numbers(network.chain(x, y, member, context))
    assert given.isfinite().all()
    torch.testing.assert_close(given[:, torch.tensor([0, 1, 3, 4])], without, rtol=1e-4, atol=1e-5)


def test_training_maximises_the_density_of_the_network() -> None:
    given = task()
    for arch, chained in (("TNPD", False), ("TNPA", True), ("SeedNetwork", True)):
        network = awake(arch)
        close(network.density(*given), network.chain(*given) if chained else network(*given))


def test_tnpa_reads_tnpds_weights() -> None:
    diagonal, given = awake("TNPD"), task()
    ordered = NETWORKS["TNPA"](**SIZES).eval()
    ordered.load_state_dict(diagonal.state_dict())
    close(diagonal(*given), ordered(*given))


@every_arch
def test_repeated_steps_change_nothing(arch: str) -> None:
    network, (x, y, member, context) = awake(arch), task()
    once, twice = (network.sampler(x, y, member, context) for _ in range(2))
    for i in (7, 8, 9):
        twice.step(x[:, 11], member[:, 11])
        a, b = (sampler.step(x[:, i], member[:, i]) for sampler in (once, twice))
        assert a.batch_shape == (2,)
        torch.testing.assert_close(a.mean, b.mean)
        for sampler in (once, twice):
            sampler.append(y[:, i])


@every_arch
def test_a_value_without_a_point_is_refused(arch: str) -> None:
    network, (x, y, member, context) = awake(arch), task()
    sampler = network.sampler(x, y, member, context)
    with pytest.raises(ValueError, match="append needs a step before it"):
        sampler.append(y[:, 7])
    sampler.step(x[:, 7], member[:, 7])
    sampler.append(y[:, 7])
    with pytest.raises(ValueError, match="append needs a step before it"):
        sampler.append(y[:, 8])
