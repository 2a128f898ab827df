"""Embedding, decoding and sampling of networks by a trained task."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from tabattn.contract.graphs import NeuronDAG, Population
from tabattn.contract.modules import from_module, to_module
from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.coder import NetworkCoder, TaskRows, padded
from tabattn.zoo.decoding import decode_free, decode_valid
from tabattn.zoo.priors import LatentPrior, Prior
from tabattn.zoo.scores import taken, validity
from tabattn.zoo.tokens import detokenize

Networks = NeuronTokens | Population | Sequence[NeuronDAG | nn.Module]
AT_ONCE = 1024
"""Most networks that are encoded or decoded at once."""


class Sampler(nn.Module):
    """Mixin of the task: networks to latents, latents to networks."""

    network: NetworkCoder
    prior: LatentPrior

    def formed(self, tokens: NeuronTokens) -> NeuronTokens:
        """Networks in the form that the task encodes."""
        return tokens

    @property
    def _place(self) -> torch.device:
        return self.network.statistics.device

    @torch.no_grad()
    def embed(self, networks: Networks) -> Tensor:
        """Encode networks to the means of their latents, ``(networks, latent)``.

        Args:
            networks: Tokens, a population, graphs, or modules that ``from_module`` converts.

        Raises:
            ValueError: A network is larger than there is room for.
            UnsupportedModule: A module is no network of neurons.
        """
        tokens = as_tokens(networks)
        self.network.sizes.check(tokens)
        found = []
        with evaluating(self):
            for part in torch.arange(len(tokens.mask)).split(AT_ONCE):
                own = NeuronTokens(*(each[part].to(self._place) for each in tokens))
                found.append(self.network.encode(self.formed(own)).mean)
        return torch.cat(found) if found else torch.zeros(0, self.network.latent)

    def decode(
        self,
        latent: Tensor,
        meta: Tensor | None = None,
        x: Tensor | None = None,
        y: Tensor | None = None,
        valid_only: bool = True,
        arch: NeuronTokens | NeuronDAG | nn.Module | None = None,
        inputs: int | None = None,
    ) -> NeuronTokens:
        """Decode latents to networks; weights have gradients to latents that require them.

        Args:
            latent: Latents, ``(networks, latent)``.
            meta: Scaled meta-features of the task, ``(features,)``, or of each network's, ``(networks, features)``;
                none = 0.
            x: Rows of the task, ``(rows, inputs)``, or of each network's, ``(networks, rows, inputs)``.
            y: Their standardised targets, ``(rows,)``, ``(rows, outputs)`` or ``(networks, rows, outputs)``.
            valid_only: Whether to decode the likeliest valid graphs; else each choice by itself, which may be no graph.
            arch: Architecture, one for all networks or one for each; none = that of the latent.
            inputs: Number of inputs of all networks, which then have one output; none = that of the latent.
        """
        task = task_rows(len(latent), meta, x, y)
        given = None if arch is None else _architectures(arch, len(latent))
        found = []
        with evaluating(self), torch.set_grad_enabled(latent.requires_grad):
            for part in torch.arange(len(latent)).split(AT_ONCE):
                told = self.network.tell(TaskRows(*(each[part].to(self._place) for each in task)))
                own = None if given is None else NeuronTokens(*(each[part].to(self._place) for each in given))
                own_latent = latent[part.to(latent.device)].to(self._place)
                found.append(decoded(self.network, own_latent, told, valid_only, own, inputs))
        return _trimmed(NeuronTokens(*(torch.cat(parts) for parts in zip(*found, strict=True))))

    @torch.no_grad()
    def draw(
        self,
        n: int,
        meta: Tensor | None = None,
        x: Tensor | None = None,
        y: Tensor | None = None,
        prior: Prior = "flow",
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> Tensor:
        """Draw latents for a task, ``(n, latent)``; arguments as of ``sample``."""
        source = None if seed is None else Generator().manual_seed(seed)
        with evaluating(self):
            told = self.network.tell(TaskRows(*(each.to(self._place) for each in task_rows(1, meta, x, y))))
            return self.prior.sample(told.expand(n, -1), prior, temperature, source)

    def sample(
        self,
        n: int,
        meta: Tensor | None = None,
        x: Tensor | None = None,
        y: Tensor | None = None,
        prior: Prior = "flow",
        temperature: float = 1.0,
        arch: NeuronTokens | NeuronDAG | nn.Module | None = None,
        valid_only: bool = True,
        seed: int | None = None,
    ) -> list[nn.Module]:
        """Sample networks for a task, as modules.

        Args:
            n: Number of networks.
            meta: Scaled meta-features of the task, ``(features,)``; none = 0.
            x: Rows of the task, ``(rows, inputs)``.
            y: Their standardised targets, ``(rows,)``.
            prior: Distribution of latents: ``normal``, ``scaled``, ``gauss``, ``kde`` or ``flow``.
            temperature: Factor on the standard deviation of their noise.
            arch: Architecture of all; none = that of each latent.
            valid_only: Whether to decode valid graphs alone; else those that are no graph are left out.
            seed: Seed; none = PyTorch's own state.
        """
        tokens = self.decode(self.draw(n, meta, x, y, prior, temperature, seed), meta, x, y, valid_only, arch)
        kept = validity(tokens)
        return [to_module(dag) for dag in detokenize(taken(tokens, kept))]


def decoded(
    network: NetworkCoder,
    latent: Tensor,
    told: Tensor,
    valid_only: bool = True,
    arch: NeuronTokens | None = None,
    inputs: int | None = None,
) -> NeuronTokens:
    """Decode latents to networks: the architecture, unless it is given, then its weights."""
    sizes = network.sizes
    if arch is None:
        logits = network.architecture(latent, told, sizes.vertices)
        arch = decode_valid(logits, sizes.inputs, sizes.width, inputs) if valid_only else decode_free(logits)
    return network.with_weights(arch, *network.weights(latent, told, arch))


def as_tokens(networks: Networks) -> NeuronTokens:
    """Tokens of networks in any form."""
    if isinstance(networks, NeuronTokens):
        return networks
    if not isinstance(networks, Population):
        dags = [each if isinstance(each, NeuronDAG) else from_module(each) for each in networks]
        networks = Population.of(dags)
    return NeuronTokens.of(networks)


def task_rows(n: int, meta: Tensor | None, x: Tensor | None, y: Tensor | None) -> TaskRows:
    """What is known of the task of each of ``n`` networks, of a task or of each."""
    meta = torch.zeros(1, 0) if meta is None else torch.as_tensor(meta, dtype=torch.float)
    x = torch.zeros(1, 1, 0) if x is None else torch.as_tensor(x, dtype=torch.float)
    y = torch.full((*x.shape[:-1], 1), float("nan")) if y is None else torch.as_tensor(y, dtype=torch.float)
    if y.dim() == x.dim() - 1:
        y = y[..., None]
    if y.shape[:-1] != x.shape[:-1]:
        raise ValueError(f"x and y must have the same rows, got {tuple(x.shape)} and {tuple(y.shape)}")
    meta, x, y = (part if part.dim() == full else part[None] for part, full in ((meta, 2), (x, 3), (y, 3)))
    return TaskRows(*(part.expand(n, *part.shape[1:]) for part in (meta, x, y)))


def with_columns(x: Tensor, inputs: int) -> Tensor:
    """Inputs for networks of up to ``inputs`` inputs: columns and rows that are not there are 0."""
    return padded(x.nan_to_num(), max(inputs, x.shape[-1]))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _architectures(arch: NeuronTokens | NeuronDAG | nn.Module, n: int) -> NeuronTokens:
    tokens = arch if isinstance(arch, NeuronTokens) else as_tokens([arch])
    return NeuronTokens(*(each.expand(n, *each.shape[1:]) for each in tokens))


def _trimmed(tokens: NeuronTokens) -> NeuronTokens:
    """Leave out the tokens behind the last vertex of all networks."""
    used = tokens.mask.any(0).nonzero()
    room = int(used.max()) + 1 if len(used) else 1
    return NeuronTokens(*(each[:, :room, :room] if each.dim() == 3 else each[:, :room] for each in tokens))
