"""Embedding, decoding and sampling of networks by a trained task."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from tabattn.contract.checks import check_least
from tabattn.contract.graphs import NeuronDAG, Population
from tabattn.contract.modules import from_module, to_module
from tabattn.contract.networks import NeuronTokens
from tabattn.metafeatures import MetaFeatures
from tabattn.zoo.coder import NetworkCoder, TaskRows, padded
from tabattn.zoo.decoding import decode_free, decode_valid
from tabattn.zoo.priors import LatentPrior, Prior
from tabattn.zoo.scores import taken, validity
from tabattn.zoo.tokens import detokenize

Networks = NeuronTokens | Population | NeuronDAG | nn.Module | Sequence[NeuronDAG | nn.Module]
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
            networks: Tokens, a population, graphs, or modules that ``from_module`` converts; one of these or several.

        Raises:
            ValueError: A network is larger than there is room for, or has a number that is not finite.
            UnsupportedModule: A module is no network of neurons.
        """
        tokens = as_tokens(networks)
        if not len(tokens.mask):
            return torch.zeros(0, self.network.latent, device=self._place)
        self.network.sizes.check(tokens)
        wrong = ~(tokens.weight.isfinite().flatten(1).all(1) & tokens.bias.isfinite().all(1))
        if wrong.any():
            raise ValueError(f"network {int(wrong.nonzero()[0])} has weights or biases that are not finite")
        found = []
        with evaluating(self):
            for part in torch.arange(len(tokens.mask)).split(AT_ONCE):
                own = NeuronTokens(*(each[part].to(self._place) for each in tokens))
                found.append(self.network.encode(self.formed(own)).mean)
        return torch.cat(found)

    def decode(
        self,
        latent: Tensor,
        meta: Tensor | None = None,
        x: Tensor | None = None,
        y: Tensor | None = None,
        valid_only: bool = True,
        arch: Networks | None = None,
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

        Raises:
            ValueError: Arguments do not fit one another or the task, or there is no room for an architecture.
        """
        latent = self._checked(latent)
        if inputs is not None and (arch is not None or not valid_only):
            raise ValueError(f"inputs={inputs} goes neither with arch nor with valid_only=False")
        task = task_rows(len(latent), meta, x, y)
        given = None if arch is None else self._architectures(arch, len(latent))
        found = []
        with evaluating(self), torch.set_grad_enabled(latent.requires_grad):
            for part in torch.arange(len(latent)).split(AT_ONCE):
                told = self.network.tell(TaskRows(*(each[part].to(self._place) for each in task)))
                own = None if given is None else NeuronTokens(*(each[part].to(self._place) for each in given))
                own_latent = latent[part.to(latent.device)].to(self._place)
                found.append(decoded(self.network, own_latent, told, valid_only, own, inputs))
        return _trimmed(NeuronTokens(*(torch.cat(parts) for parts in zip(*found, strict=True))))

    def _checked(self, latent: Tensor) -> Tensor:
        latent = torch.as_tensor(latent)
        if latent.dim() != 2 or latent.shape[1] != self.network.latent:
            raise ValueError(
                f"latents must have the shape (networks, {self.network.latent}), got {tuple(latent.shape)}"
            )
        if not latent.isfinite().all():
            raise ValueError("latents must be finite, got numbers that are not")
        return latent.to(self.network.statistics.dtype)

    def _architectures(self, arch: Networks, n: int) -> NeuronTokens:
        """Architecture of each of ``n`` networks."""
        tokens = as_tokens(arch)
        if len(tokens.mask) not in (1, n):
            raise ValueError(f"arch must be 1 architecture or {n}, one for each network, got {len(tokens.mask)}")
        self.network.sizes.check(tokens)
        return NeuronTokens(*(each.expand(n, *each.shape[1:]) for each in tokens))

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
        check_least(n=(n, 0))
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
        arch: Networks | None = None,
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
    if isinstance(networks, (NeuronDAG, nn.Module)):
        networks = [networks]
    if not isinstance(networks, Population):
        dags = [each if isinstance(each, NeuronDAG) else from_module(each) for each in networks]
        networks = Population.of(dags)
    return NeuronTokens.of(networks)


def task_rows(n: int, meta: Tensor | None, x: Tensor | None, y: Tensor | None) -> TaskRows:
    """What is known of the task of each of ``n`` networks, of a task or of each."""
    if isinstance(meta, MetaFeatures):
        raise ValueError("meta must be scaled as that of the zoo, as task.table(x, y).meta is, got MetaFeatures")
    meta = torch.zeros(1, 0) if meta is None else torch.as_tensor(meta, dtype=torch.float)
    x = torch.zeros(1, 1, 0) if x is None else torch.as_tensor(x, dtype=torch.float)
    y = torch.full((*x.shape[:-1], 1), float("nan")) if y is None else torch.as_tensor(y, dtype=torch.float)
    if y.dim() == x.dim() - 1:
        y = y[..., None]
    if y.shape[:-1] != x.shape[:-1]:
        raise ValueError(f"x and y must have the same rows, got {tuple(x.shape)} and {tuple(y.shape)}")
    parts = {"meta": (meta, 2), "x": (x, 3), "y": (y, 3)}
    whole = {name: part[None] if part.dim() == full - 1 else part for name, (part, full) in parts.items()}
    for name, part in whole.items():
        if part.dim() != parts[name][1] or len(part) not in (1, n):
            raise ValueError(f"{name} must be of 1 task or of {n}, got the shape {tuple(part.shape)}")
    if not whole["meta"].isfinite().all():
        raise ValueError("meta must be finite, with 0 for what is undefined")
    return TaskRows(*(part.expand(n, *part.shape[1:]) for part in whole.values()))


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


def _trimmed(tokens: NeuronTokens) -> NeuronTokens:
    """Leave out the tokens behind the last vertex of all networks."""
    used = tokens.mask.any(0).nonzero()
    room = int(used.max()) + 1 if len(used) else 1
    return NeuronTokens(*(each[:, :room, :room] if each.dim() == 3 else each[:, :room] for each in tokens))
