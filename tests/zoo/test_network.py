"""Networks that encode and decode networks: what they may depend on, and that their graphs are valid."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from tabattn.attention import MECHANISMS, Local, Softmax
from tabattn.contract.graphs import OUTPUT, Population
from tabattn.contract.modules import from_module
from tabattn.contract.networks import NetworkBatch, NeuronTokens
from tabattn.zoo import NETWORKS, NeuronTransformer, Sizes, detokenize, execute, permuted, tokenize
from tabattn.zoo.canonical import canonical
from tabattn.zoo.coder import Architecture, NetworkCoder, TaskRows
from tabattn.zoo.decoding import decode_free, decode_valid
from tabattn.zoo.loss import LossOptions, network_losses
from tabattn.zoo.network import ProbedOutputs
from tabattn.zoo.sampling import decoded
from tabattn.zoo.scores import matches, padded, validity
from tabattn.zoo.told import MOST_ROWS, TaskEncoder
from tests.zoo.networks import batch, graph, sure

SIZES = Sizes(14, 4, 5, 4, 6)
SMALL: dict[str, dict[str, Any]] = {
    "NeuronTransformer": {"dim": 16, "heads": 2, "hidden": 16, "layers": 1, "slots": 3, "weight_layers": 1},
    "MLPMatrix": {"hidden": 16},
    "ConvMatrix": {"channels": 4},
}


def coder(name: str = "NeuronTransformer", **options: Any) -> NetworkCoder:
    """Make a small network."""
    torch.manual_seed(0)
    return NETWORKS[name](SIZES, Softmax, **{"latent": 8, **SMALL[name], **options})


def through(network: NetworkCoder, given: NetworkBatch) -> list[Tensor]:
    """Compute all that a network computes, one tensor each."""
    told = network.tell(TaskRows(given.meta, given.x, given.y))
    posterior = network.encode(given.tokens)
    logits = network.architecture(posterior.mean, told, SIZES.vertices)
    weights = network.weights(posterior.mean, told, given.tokens)
    losses = network_losses(
        network, given.tokens, posterior.mean, told, given.probe, LossOptions(weighting="gauss_newton")
    )
    return [told, *posterior, *logits[:-1], *weights, *losses.values(), *decoded(network, posterior.mean, told)]


def taken(given: NetworkBatch, places: Tensor) -> NetworkBatch:
    """Take networks of a batch."""
    return NetworkBatch(NeuronTokens(*(part[places] for part in given.tokens)), *(part[places] for part in given[1:7]))


@pytest.mark.parametrize("meta", ["token", "concat", "rows", "none"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_of_a_batch_depends_on_another(name: str, meta: str) -> None:
    if name != "NeuronTransformer" and meta == "token":
        pytest.skip("the baselines have no tokens")
    given, other = batch(5), batch(5, seed=1)
    network = coder(name, meta=meta).eval()
    order = torch.tensor([3, 0, 4])
    whole = [part[order] for part in through(network, given)]
    for found, true in zip(through(network, taken(given, order)), whole, strict=True):
        assert torch.allclose(found, true, atol=1e-5)
    mixed = NetworkBatch(
        NeuronTokens(*(torch.cat([a[:1], b[1:]]) for a, b in zip(given.tokens, other.tokens, strict=True))),
        *(torch.cat([a[:1], b[1:]]) for a, b in zip(given[1:7], other[1:7], strict=True)),
    )
    for found, true in zip(through(network, mixed), through(network, given), strict=True):
        assert torch.allclose(found[0], true[0], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_room_without_vertices_changes_nothing(name: str) -> None:
    given = batch(3, room=12)
    network = coder(name, meta="none").eval()
    posterior = network.encode(given.tokens)
    wider = network.encode(padded(given.tokens, 14))
    assert torch.allclose(posterior.mean, wider.mean, atol=1e-5)
    told = torch.zeros(3, 0)
    weight, _ = network.weights(posterior.mean, told, given.tokens)
    more, _ = network.weights(posterior.mean, told, padded(given.tokens, 14))
    assert torch.allclose(weight * given.tokens.edge, more[:, :12, :12] * given.tokens.edge, atol=1e-5)
    losses = [
        network_losses(network, tokens, posterior.mean, told, given.probe, LossOptions())
        for tokens in (given.tokens, padded(given.tokens, 14))
    ]
    for name, values in losses[0].items():
        assert torch.allclose(values, losses[1][name], atol=1e-5), name


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_serves_between_neurons(name: str) -> None:
    given = batch(2)
    network = NeuronTransformer(SIZES, MECHANISMS[name], latent=8, **SMALL["NeuronTransformer"])
    told = network.tell(TaskRows(given.meta, given.x, given.y))
    posterior = network.encode(given.tokens)
    losses = network_losses(network, given.tokens, posterior.drawn(), told, given.probe, LossOptions())
    torch.stack([*losses.values()]).sum().backward()
    gradients = [parameter.grad for parameter in network.encoder.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str) -> None:
    given = batch(4)
    network = coder(name, meta="concat" if name != "NeuronTransformer" else "rows")
    network.begin(given.tokens)
    told = network.tell(TaskRows(given.meta, given.x, given.y))
    posterior = network.encode(given.tokens)
    losses = network_losses(network, given.tokens, posterior.drawn(), told, given.probe, LossOptions())
    torch.stack([*losses.values()]).sum().backward()
    silent = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()]
    assert [name for name in silent if "unknown" not in name] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_reads_all_of_a_network(name: str) -> None:
    given = batch(1)
    network = coder(name, meta="none").eval()
    network.begin(given.tokens)
    mean = network.encode(given.tokens).mean
    place = given.tokens.edge[0].nonzero()[-1]
    weight, bias, kind, flags = (part.clone() for part in (*given.tokens[4:5], *given.tokens[3:4], *given.tokens[:3:2]))
    weight[0, place[0], place[1]] += 1
    bias[0, place[0]] += 1
    kind[0, place[0]] += 1
    flags[0, place[0]] ^= OUTPUT
    for change in ({"weight": weight}, {"bias": bias}, {"type": kind}, {"flags": flags}):
        assert not torch.allclose(network.encode(given.tokens._replace(**change)).mean, mean, atol=1e-4)


def test_the_encoder_reads_what_a_network_computes() -> None:
    """Probe features are sums over outputs of a function of these on the learned inputs."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    torch.manual_seed(0)
    probed = ProbedOutputs(SIZES, 5, 6, hidden=7)
    values = module(probed.inputs[:, :3]).T.asinh()
    hidden = torch.nn.functional.silu(probed.enter(values) + probed.places.weight[:2])
    found = probed(NeuronTokens.of(Population.of([from_module(module)]), 12))
    assert torch.allclose(found[0], (probed.leave(hidden) + probed.straight(values)).sum(0), atol=1e-5)
    assert coder(probes=0).probed is None


def test_weights_have_the_statistics_of_their_level() -> None:
    given = batch(40)
    network = coder()
    network.begin(given.tokens)
    weight, bias = network.standardised(given.tokens)
    for level in (1, 2):
        here = given.tokens.level == level
        values = weight[given.tokens.edge & here[:, :, None]]
        assert values.mean().abs() < 1e-4
        assert values.std() == pytest.approx(1, abs=1e-3)
        assert bias[here & given.tokens.mask].std() == pytest.approx(1, abs=1e-3)
    again = network.with_weights(given.tokens, weight, bias)
    assert torch.allclose(again.weight, given.tokens.weight, atol=1e-5)
    assert torch.allclose(again.bias, given.tokens.bias, atol=1e-5)


def test_the_canonical_form_of_permuted_networks_has_one_latent() -> None:
    given = batch(6)
    network = coder().eval()
    means = [
        network.encode(canonical(each)).mean
        for each in (given.tokens, permuted(given.tokens, torch.Generator().manual_seed(0)))
    ]
    assert torch.allclose(*means, atol=1e-5)


def random_logits(count: int, room: int, seed: int) -> Architecture:
    """Draw logits."""
    source = torch.Generator().manual_seed(seed)
    shapes = (count, room), (count, room, 10), (count, room, 4), (count, room, 8), (count, room, room), (4, 4)
    return Architecture(*(3 * torch.randn(shape, generator=source) for shape in shapes))


def test_constrained_decoding_always_gives_valid_graphs() -> None:
    found = decode_valid(random_logits(500, 14, 0), 4, 5)
    assert validity(found).all()
    assert len(detokenize(found)) == 500
    assert ((found.level == 0) & found.mask).sum(1).max() == 4
    assert (found.place * found.mask).max() == 4
    assert execute(found, torch.randn(500, 3, 4)).outputs.isfinite().all()
    assert validity(decode_free(random_logits(500, 14, 0))).float().mean() < 0.1


@pytest.mark.parametrize("exact", [1, 3, 4])
def test_constrained_decoding_for_a_number_of_inputs(exact: int) -> None:
    logits = random_logits(300, 14, 0)
    found = decode_valid(logits, 4, 5, exact)
    assert validity(found).all()
    assert (((found.level == 0) & found.mask).sum(1) == exact).all()
    assert (((found.flags & 4) > 0) & found.mask).sum(1).tolist() == [1] * 300
    # With room for it, graphs that have as many inputs by themselves stay as they are.
    found, free = decode_valid(logits, 4, 14, exact), decode_valid(logits, 4, 14)
    alike = ((free.level == 0) & free.mask).sum(1) == exact
    assert alike.any()
    assert torch.equal(found.level[alike], free.level[alike])
    assert torch.equal(found.type[alike], free.type[alike])
    with pytest.raises(ValueError, match="networks must have 1 to 4 inputs, got 5"):
        decode_valid(logits, 4, 5, 5)


@pytest.mark.parametrize(("inputs", "width", "room"), [(6, 6, 6), (2, 2, 6), (1, 2, 6), (3, 1, 4), (6, 2, 6)])
def test_constrained_decoding_is_the_likeliest_graph(inputs: int, width: int, room: int) -> None:
    """The number of vertices and the levels, by trying all; ``room``: the most vertices that 4 levels hold, up to 6."""
    logits = random_logits(40, 6, 1)
    found = decode_valid(logits, inputs, width)
    scores = logits.level.log_softmax(-1)
    for index in range(40):
        presence = [
            torch.nn.functional.logsigmoid(
                torch.where(torch.arange(6) < size, 1.0, -1.0) * logits.presence[index]
            ).sum()
            for size in range(2, room + 1)
        ]
        size = int(torch.stack(presence).argmax()) + 2
        assert int(found.mask[index].sum()) == size
        paths = [[0]]
        for _ in range(size - 1):
            paths = [[*path, path[-1] + rise] for path in paths for rise in (0, 1) if path[-1] + rise < 4]
        paths = [path for path in paths if path[-1] > 0 and path.count(0) <= inputs]
        paths = [path for path in paths if max(path.count(code) for code in path) <= width]
        best = max(paths, key=lambda path: float(sum(scores[index, place, code] for place, code in enumerate(path))))
        assert found.level[index, :size].tolist() == best


def test_the_leading_part_of_a_latent_is_the_architecture_and_the_rest_the_weights() -> None:
    given = batch(3)
    network = coder(latent=(3, 5), meta="none").eval()
    assert (network.latent, network.leading) == (8, 3)
    latent, told = torch.randn(3, 8), torch.zeros(3, 0)
    for own in (slice(0, 3), slice(3, 8)):
        other = latent.clone()
        other[:, own] += 1
        logits = [network.architecture(each, told, 14) for each in (latent, other)]
        weights = [network.weights(each, told, given.tokens) for each in (latent, other)]
        assert torch.equal(logits[0].level, logits[1].level) == (own.start == 3)
        assert torch.equal(logits[0].type, logits[1].type) == (own.start == 3)
        assert torch.equal(weights[0][0], weights[1][0]) == (own.start == 0)
    with pytest.raises(ValueError, match="latent must be at least 1, got 0"):
        coder(latent=(0, 5))


def test_true_logits_decode_to_the_network() -> None:
    """Both ways of decoding, for graphs with skip connections too."""
    source = np.random.default_rng(0)
    dags = [graph(source, plain=True) for _ in range(30)]
    tokens = tokenize(dags)
    assert isinstance(tokens, NeuronTokens)
    logits = sure(tokens, int(tokens.level.max()) + 1)
    for found in (decode_valid(logits, 9, 9), decode_free(logits)):
        assert matches(found, tokens).exact.all()
        assert validity(found).all()
    changed = tokens._replace(flags=tokens.flags ^ OUTPUT)
    assert not matches(changed, tokens).exact.any()


def test_what_is_no_graph_is_not_valid() -> None:
    tokens = batch(1).tokens
    size = int(tokens.mask.sum())
    last = size - 1

    def changed(name: str, place: tuple[int, ...], value: Any) -> NeuronTokens:
        part = getattr(tokens, name).clone()
        part[(0, *place)] = value
        return tokens._replace(**{name: part})

    assert validity(tokens).all()
    none = torch.zeros_like(tokens.edge[0, last])
    for wrong in (
        changed("mask", (1,), False),
        changed("level", (0,), 1),
        changed("level", (last,), 9),
        changed("type", (0,), 2),
        changed("flags", (0,), 1),
        changed("flags", (last,), 3),
        changed("edge", (last,), none),
        changed("edge", (last, last), True),
        changed("bias", (last,), float("inf")),
    ):
        assert not validity(wrong).any()


def test_networks_that_are_too_large_are_refused() -> None:
    tokens = batch(2).tokens
    for name, sizes in (
        ("vertices", Sizes(6, 8, 8, 8)),
        ("levels", Sizes(20, 2, 8, 8)),
        ("width", Sizes(20, 8, 3, 8)),
        ("inputs", Sizes(20, 8, 8, 3)),
    ):
        with pytest.raises(ValueError, match=f"sizes.{name} must be at least"):
            sizes.check(tokens)
    with pytest.raises(ValueError, match=r"sizes.levels must be at least 2, got 1"):
        Sizes(levels=1)


def test_the_encoding_of_rows_has_the_ridge_regression() -> None:
    given = batch(3)
    told = coder(meta="rows").eval().tell(TaskRows(given.meta, given.x, given.y))
    for own, x, y in zip(told, given.x, given.y[..., 0], strict=True):
        real = ~y.isnan()
        fitted = Ridge(alpha=1.0, fit_intercept=False).fit(x[real].numpy(), y[real].numpy())
        assert own[:4].tolist() == pytest.approx(fitted.coef_.tolist(), abs=1e-4)


def test_the_encoding_of_rows_is_of_a_set() -> None:
    """The order of rows, rows without a target, and columns that are not there change nothing."""
    given, order = batch(2), torch.randperm(12, generator=torch.Generator().manual_seed(0))
    network = coder(meta="rows").eval()
    told = network.tell(TaskRows(given.meta, given.x, given.y))
    assert torch.allclose(network.tell(TaskRows(given.meta, given.x[:, order], given.y[:, order])), told, atol=1e-5)
    empty = given.x[:, -1:] + 5, torch.full_like(given.y[:, -1:], torch.nan)
    more = TaskRows(given.meta, *(torch.cat(pair, 1) for pair in zip((given.x, given.y), empty, strict=True)))
    assert torch.allclose(network.tell(more), told, atol=1e-5)
    most = TaskRows(given.meta, *(each.repeat(1, 50, 1)[:, :MOST_ROWS] for each in (given.x, given.y)))
    further = TaskRows(given.meta, *(torch.cat([each, each[:, :40] + 3], 1) for each in most[1:]))
    assert torch.equal(network.tell(further), network.tell(most))
    narrow = TaskRows(given.meta, given.x[..., :3], given.y)
    missing = narrow._replace(x=torch.cat([narrow.x, torch.full_like(given.x[..., 3:], torch.nan)], -1))
    assert torch.equal(network.tell(narrow), network.tell(missing))


def test_the_encoding_of_rows_reads_residuals_and_is_a_mean() -> None:
    given, network = batch(2), coder(meta="rows").eval()
    encoder = network.task_encoder
    assert isinstance(encoder, TaskEncoder)
    read: list[Tensor] = []
    encoder.row.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    x, y = given.x[:, :8], given.y[:, :8]
    told = network.tell(TaskRows(given.meta, x, y))
    assert torch.allclose(read[0][..., -1], y[..., 0] - (x @ told[:, :4, None])[..., 0], atol=1e-5)
    twice = network.tell(TaskRows(given.meta, x.repeat(1, 2, 1), y.repeat(1, 2, 1)))
    assert torch.allclose(twice[:, 4:], told[:, 4:], atol=0.05)
    assert network.decoder.grid.linear.in_features == network.latent + network.told


def test_a_wrong_form_of_telling_is_refused() -> None:
    make: Any = partial(NeuronTransformer, SIZES, meta="words")
    with pytest.raises(ValueError, match="meta must be token, concat, rows or none, got 'words'"):
        make()


@pytest.mark.parametrize("name", ["MLPMatrix", "ConvMatrix"])
def test_tokens_of_tasks_for_a_network_without_tokens_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no tokens: meta must be concat, rows or none, got token"):
        coder(name, meta="token")


@pytest.mark.parametrize("name", ["MLPMatrix", "ConvMatrix"])
def test_a_mechanism_for_a_network_without_attention_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no attention: attention must be Softmax, got Local"):
        NETWORKS[name](SIZES, Local, **SMALL[name])
