"""Loss of the autoencoder of networks: architecture, weights, behaviour and latent; a value for each network."""

from dataclasses import dataclass, fields
from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.coder import Architecture, NetworkCoder, Posterior
from tabattn.zoo.decoding import decode_valid
from tabattn.zoo.executor import execute
from tabattn.zoo.scores import padded
from tabattn.zoo.sensitivity import Weighting, edge_weighting
from tabattn.zoo.task_scores import answers


@dataclass(frozen=True)
class LossOptions:
    """Options of the loss, a sum of parts: of the architecture, the weights, the behaviour, the latent and the prior.

    Args:
        architecture: Weight of the cross-entropies of presence, activation function, level, flags and edges.
        structure: Weight of the mean squared error of weights and biases, each in units of its level.
        weighting: How these errors are weighted: ``none``, or by neuron sensitivity (SeReNe): ``neuron`` = that of the
            child, ``neuron_x_act`` = times the mean absolute value of the parent, ``gauss_newton`` = the second-order
            change of the outputs.
        behaviour: Weight of the error of the outputs, relative to their variance: ``log(1 + error / tolerance)``, which
            no single network can dominate.
        tolerance: Relative error up to which it is proportional.
        beta: Weight of the Kullback-Leibler divergence of the posterior from N(0, I), nats per network.
        leading_beta: That of the leading part of the latent, where the architecture is decoded from it alone. Few nats
            tell an architecture, so that this part may be near N(0, I), and its samples near those of the zoo.
        warmup: Share of all steps in which these two rise from 0.
        free_bits: Nats per dimension that the posterior may differ without cost, on the average of a batch.
        prior: Weight of the loss of the flow-matching prior, which gives no gradient to the other parts.
        valid: Weight of the cross-entropies of graphs decoded from N(0, I), each beside the likeliest valid graph of
            the same logits: so that each choice by itself gives valid graphs too.
        targets: Weight of the error on the rows of the task of weights decoded from N(0, I), unless nothing is told of
            tasks: so that what is told is enough for a network that solves the task, as in a hypernetwork (Mueller et
            al. 2025, MotherNet).
    """

    architecture: float = 1.0
    structure: float = 0.1
    weighting: Weighting = "none"
    behaviour: float = 1.0
    tolerance: float = 1.0
    beta: float = 1e-3
    leading_beta: float = 0.02
    warmup: float = 0.3
    free_bits: float = 0.05
    prior: float = 1.0
    valid: float = 0.1
    targets: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "weighting" and not 0 <= value < inf:
                raise ValueError(f"loss.{each.name} must be at least 0 and finite, got {value}")
        if self.warmup > 1:
            raise ValueError(f"loss.warmup must be at most 1, got {self.warmup}")
        if self.tolerance <= 0:
            raise ValueError(f"loss.tolerance must be above 0, got {self.tolerance}")

    def warmed(self, step: int, steps: float) -> float:
        """Factor on the weights of the divergence after ``step`` of ``steps`` steps."""
        return min(1.0, step / max(1.0, self.warmup * steps))


DEFAULT_LOSS = LossOptions()


def architecture_losses(logits: Architecture, tokens: NeuronTokens) -> Tensor:
    """Cross-entropies of an architecture, summed over its kinds of choices, each a mean, ``(networks,)``."""
    mask = tokens.mask
    behind = mask & (tokens.level > 0)
    presence = F.binary_cross_entropy_with_logits(logits.presence, mask.float(), reduction="none").mean(1)
    found = presence
    for scores, codes, here in (
        (logits.type, tokens.type, behind),
        (logits.level, tokens.level, mask),
        (logits.flags, tokens.flags, mask),
    ):
        found = found + _mean(F.cross_entropy(scores.mT, codes, reduction="none"), here)
    candidates = (tokens.level[:, :, None] > tokens.level[:, None]) & mask[:, :, None] & mask[:, None]
    edges = F.binary_cross_entropy_with_logits(logits.edges(tokens.level), tokens.edge.float(), reduction="none")
    return found + _mean(edges.flatten(1), candidates.flatten(1))


def structure_losses(
    truth: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor], weighting: tuple[Tensor, Tensor]
) -> Tensor:
    """Weighted mean of the squared errors of weights and biases, ``(networks,)``.

    Args:
        truth: True weights ``(networks, tokens, tokens)`` and biases ``(networks, tokens)``, in units of their level.
        found: Decoded ones.
        weighting: Their weights in the mean, 0 where there is none.
    """
    total = torch.zeros((), device=truth[0].device)
    count = torch.zeros((), device=truth[0].device)
    for true, decoded, weights in zip(truth, found, weighting, strict=True):
        squares = (true - decoded.float()).square() * weights
        total, count = total + squares.flatten(1).sum(1), count + weights.flatten(1).sum(1)
    return total / count.clamp(min=torch.finfo(total.dtype).tiny)


def relative_errors(true: Tensor, found: Tensor) -> Tensor:
    """Mean squared error of outputs ``(networks, rows, outputs)``, over their variance, ``(networks,)``."""
    variance = true.var(1, correction=0).sum(1)
    return (true - found).square().mean(1).sum(1) / variance.clamp(min=1e-6)


def behaviour_losses(true: Tensor, found: Tensor, tolerance: float) -> Tensor:
    """Errors of outputs relative to their variance, on a logarithmic scale beyond a tolerance, ``(networks,)``."""
    return tolerance * (relative_errors(true, found) / tolerance).log1p()


def divergences(posterior: Posterior) -> Tensor:
    """Kullback-Leibler divergence from N(0, I) in nats, ``(networks, latent)``."""
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def network_losses(
    coder: NetworkCoder,
    tokens: NeuronTokens,
    latent: Tensor,
    told: Tensor,
    probe: Tensor,
    options: LossOptions,
) -> dict[str, Tensor]:
    """Losses of networks decoded from latents: ``architecture``, ``structure`` and ``behaviour``, ``(networks,)`` each.

    Weights are decoded into the true architecture.
    """
    # With all the room there is, as in decoding: else nothing says that a small network has no more vertices.
    room = coder.sizes.vertices
    found = {"architecture": architecture_losses(coder.architecture(latent, told, room), padded(tokens, room))}
    weights = coder.weights(latent, told, tokens)
    with torch.autocast(latent.device.type, enabled=False):
        if options.structure:
            importance = edge_weighting(tokens, probe, options.weighting)
            found["structure"] = structure_losses(coder.standardised(tokens), weights, importance)
        if options.behaviour:
            true = execute(tokens, probe).outputs.detach()
            outputs = execute(coder.with_weights(tokens, *weights), probe).outputs
            found["behaviour"] = behaviour_losses(true, outputs, options.tolerance)
    return found


def validity_losses(coder: NetworkCoder, told: Tensor) -> Tensor:
    """Cross-entropies of graphs decoded from N(0, I), each beside the likeliest valid graph, ``(networks,)``."""
    sizes = coder.sizes
    latent = torch.randn(len(told), coder.latent, device=told.device)
    logits = coder.architecture(latent, told, sizes.vertices)
    with torch.no_grad():
        nearest = decode_valid(logits, sizes.inputs, sizes.width)
    return architecture_losses(logits, nearest)


def target_losses(
    coder: NetworkCoder,
    tokens: NeuronTokens,
    told: Tensor,
    x: Tensor,
    y: Tensor,
    tolerance: float,
    classes: Tensor | None = None,
) -> Tensor:
    """Errors on their tasks of networks whose weights are decoded from N(0, I), as of behaviour, ``(networks,)``.

    Args:
        coder: Decodes.
        tokens: Architectures, whose weights are not read.
        told: What is told of the tasks, ``(networks, told)``.
        x: Rows of the tasks, ``(networks, rows, inputs)``, without NaN.
        y: Their targets, ``(networks, rows, outputs)``; NaN = not there.
        tolerance: Relative error up to which it is proportional.
        classes: Number of classes of each task, whose probabilities are compared, ``(networks,)``; 0 = numbers; none =
            all are numbers.
    """
    latent = torch.randn(len(told), coder.latent, device=told.device)
    weights = coder.weights(latent, told, tokens)
    with torch.autocast(latent.device.type, enabled=False):
        found = answers(execute(coder.with_weights(tokens, *weights), x).outputs, y, classes)
        known = ~y.isnan()
        count = known.sum(1, keepdim=True).clamp(min=1)
        mean = y.nan_to_num().sum(1, keepdim=True) / count
        # A row without a target counts as the mean, without error: the relative error is that of the other rows.
        true = torch.where(known, y, mean)
        return behaviour_losses(true, torch.where(known, found, mean), tolerance)


def total_loss(parts: dict[str, Tensor], options: LossOptions) -> Tensor:
    """Weighted sum of the means of the parts."""
    return torch.stack([getattr(options, name) * part.mean() for name, part in parts.items()]).sum()


def free_divergences(posterior: Posterior, free_bits: float, leading: int) -> Tensor:
    """Mean divergences of a batch, of each dimension at least ``free_bits``: of the leading ones and of the rest."""
    found = divergences(posterior).mean(0).clamp(min=free_bits)
    return torch.stack([found[:leading].sum(), found[leading:].sum()])


def _mean(values: Tensor, here: Tensor) -> Tensor:
    return (values * here).sum(1) / here.sum(1).clamp(min=1)
