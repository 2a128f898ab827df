"""Baselines: autoencoders of networks as matrices, by convolutions or by a multilayer perceptron."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax, as_factory
from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.coder import FLAGS, TYPES, Architecture, NetworkCoder, Posterior, Sizes, TaskRows
from tabattn.zoo.scores import padded
from tabattn.zoo.told import Meta, TaskEncoder

MATRICES = 3
"""Matrices that are decoded: weights, logits of edges, and what all else is read from."""


class MatrixCoder(NetworkCoder):
    """Abstract autoencoder of matrices: weights and edges, with rows of types, levels, flags and biases below.

    What is told of the task is concatenated to the latent.

    Args:
        sizes: Room for networks.
        latent: Width of the latent.
        meta: What the decoder is told of the task: ``concat``, ``rows`` or ``none``.
        side: Side of the matrices.
        attention: Mechanism that was chosen, of which there is none here.

    Raises:
        ValueError: A mechanism other than the default was chosen, or tasks are to be told as tokens.
    """

    def __init__(self, sizes: Sizes, latent: int, meta: Meta, side: int, attention: AttentionFactory) -> None:
        if not isinstance(chosen := as_factory(attention)(1, 1), Softmax):
            name = type(self).__name__
            raise ValueError(f"{name} has no attention: attention must be Softmax, got {type(chosen).__name__}")
        if meta == "token":
            raise ValueError(f"{type(self).__name__} has no tokens: meta must be concat, rows or none, got token")
        encoder = TaskEncoder(meta, sizes, 64)
        super().__init__(sizes, latent, encoder.width)
        self.task_encoder = encoder
        self.side = side
        self.heads = nn.Linear(side, 1 + TYPES + sizes.levels + FLAGS + 1)
        self.rise = nn.Parameter(torch.zeros(sizes.levels, sizes.levels))

    @abstractmethod
    def encoded(self, image: Tensor) -> Tensor:
        """Means and log-variances, ``(networks, 2 * latent)``, of images ``(networks, 2, side, side)``."""

    @abstractmethod
    def image(self, given: Tensor) -> Tensor:
        """Matrices ``(networks, 3, side, side)`` of latents."""

    def tell(self, task: TaskRows) -> Tensor:
        return self.task_encoder(task)

    def encode(self, tokens: NeuronTokens) -> Posterior:
        weight, bias = self.standardised(tokens)
        tokens = padded(tokens._replace(weight=weight.asinh(), bias=bias.asinh()), self.sizes.vertices)
        rows = torch.stack([tokens.type, tokens.level, tokens.flags, tokens.bias], dim=1).float()
        values = torch.cat([tokens.weight, rows], dim=1)
        there = torch.cat([tokens.edge, tokens.mask[:, None].expand(-1, rows.shape[1], -1)], dim=1).float()
        both = torch.stack([values, there], dim=1)
        both = nn.functional.pad(both, (0, self.side - both.shape[-1], 0, self.side - both.shape[-2]))
        mean, log_variance = self.encoded(both).float().chunk(2, dim=-1)
        return Posterior(mean, log_variance.clamp(-12, 4))

    def _matrices(self, latent: Tensor, told: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        found = self.image(torch.cat([latent, told], dim=-1)).float()
        weight, edge = found[:, 0, :tokens, :tokens], found[:, 1, :tokens, :tokens]
        return weight, edge, self.heads(found[:, 2, :tokens]).float()

    def architecture(self, latent: Tensor, told: Tensor, tokens: int) -> Architecture:
        _, edge, heads = self._matrices(latent, told, tokens)
        presence, kind, level, flags, _ = heads.split([1, TYPES, self.sizes.levels, FLAGS, 1], dim=-1)
        return Architecture(presence[..., 0], kind, level, flags, edge, self.rise)

    def weights(self, latent: Tensor, told: Tensor, tokens: NeuronTokens) -> tuple[Tensor, Tensor]:
        weight, _, heads = self._matrices(latent, told, tokens.mask.shape[1])
        return weight, heads[..., -1]


class MLPMatrix(MatrixCoder):
    """Baseline: variational autoencoder of networks as matrices, by multilayer perceptrons.

    Args:
        sizes: Room for networks.
        attention: Only the default, as there is none here.
        latent: Width of the latent.
        hidden: Width of the hidden layers.
        meta: What the decoder is told of the task: ``concat``, ``rows`` or ``none``.
    """

    def __init__(
        self,
        sizes: Sizes,
        attention: AttentionFactory = Softmax,
        *,
        latent: int = 64,
        hidden: int = 512,
        meta: Meta = "concat",
    ) -> None:
        side = sizes.vertices + 4
        super().__init__(sizes, latent, meta, side, attention)

        def mlp(narrow: int, wide: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(narrow, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, wide)
            )

        self.encoder = mlp(2 * side * side, 2 * latent)
        self.decoder = mlp(latent + self.told, MATRICES * side * side)

    def encoded(self, image: Tensor) -> Tensor:
        return self.encoder(image.flatten(1))

    def image(self, given: Tensor) -> Tensor:
        return self.decoder(given).unflatten(1, (MATRICES, self.side, self.side))


class ConvMatrix(MatrixCoder):
    """Baseline: variational autoencoder of networks as images, by convolutions.

    Args:
        sizes: Room for networks.
        attention: Only the default, as there is none here.
        latent: Width of the latent.
        channels: Channels of the first convolution; the second has twice as many.
        meta: What the decoder is told of the task: ``concat``, ``rows`` or ``none``.
    """

    def __init__(
        self,
        sizes: Sizes,
        attention: AttentionFactory = Softmax,
        *,
        latent: int = 64,
        channels: int = 32,
        meta: Meta = "concat",
    ) -> None:
        side = -(-(sizes.vertices + 4) // 4) * 4
        super().__init__(sizes, latent, meta, side, attention)
        self.small = (2 * channels, side // 4, side // 4)
        flat = 2 * channels * (side // 4) ** 2
        self.encoder = nn.Sequential(
            nn.Conv2d(2, channels, 4, 2, 1), nn.SiLU(), nn.Conv2d(channels, 2 * channels, 4, 2, 1), nn.SiLU()
        )
        self.posterior = nn.Linear(flat, 2 * latent)
        self.begin_decoder = nn.Linear(latent + self.told, flat)
        self.decoder = nn.Sequential(
            nn.SiLU(),
            nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(channels, MATRICES, 4, 2, 1),
        )

    def encoded(self, image: Tensor) -> Tensor:
        return self.posterior(self.encoder(image).flatten(1))

    def image(self, given: Tensor) -> Tensor:
        return self.decoder(self.begin_decoder(given).unflatten(1, self.small))
