"""NeuronTransformer: the default network of the zoo."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.contract.checks import check_least
from tabattn.contract.networks import NeuronTokens
from tabattn.nn.block import row_block
from tabattn.zoo.coder import FLAGS, TYPES, Architecture, NetworkCoder, Posterior, Sizes, TaskRows
from tabattn.zoo.told import Meta, TaskEncoder

CELL = 16
"""Width of what a place of the grid of levels and places adds to the latent, or gets from it."""

SMALL = 0.2
"""Standard deviation of weights of embeddings at first."""


class Places(nn.Module):
    """Embedding of what a vertex is: activation function, level, place in its level, and flags.

    Args:
        sizes: Room for networks.
        dim: Width of a token.
    """

    def __init__(self, sizes: Sizes, dim: int) -> None:
        super().__init__()
        self.sizes = sizes
        counts = TYPES, sizes.levels, sizes.width, FLAGS, sizes.levels * sizes.width
        self.tables = nn.ModuleList(nn.Embedding(count, dim) for count in counts)
        for table in self.tables:
            # Small beside the embedded weights, which layer normalisation would else hide.
            nn.init.normal_(cast("nn.Embedding", table).weight, std=SMALL)

    def cell(self, tokens: NeuronTokens) -> Tensor:
        """Number of each vertex in the grid of levels and places, ``(networks, tokens)``."""
        return tokens.level * self.sizes.width + tokens.place.clamp(max=self.sizes.width - 1)

    def forward(self, tokens: NeuronTokens) -> Tensor:
        """Embed vertices, ``(networks, tokens, dim)``."""
        cell = self.cell(tokens)
        codes = tokens.type, tokens.level, cell % self.sizes.width, tokens.flags, cell
        return torch.stack([table(code) for table, code in zip(self.tables, codes, strict=True)]).sum(0)


def neighbours(tokens: NeuronTokens, width: int) -> tuple[Tensor, Tensor]:
    """Where parents are: those a level below by their place, ``(networks, tokens, width)`` float; and all others.

    Returns:
        The places of vertices as vectors of zeros with a one; whether a pair is child and parent of adjacent levels,
        ``(networks, tokens, tokens)``.
    """
    places = F.one_hot(tokens.place.clamp(max=width - 1), width).float() * tokens.mask[..., None]
    return places, tokens.level[:, :, None] == tokens.level[:, None, :] + 1


class NeuronTransformer(NetworkCoder):
    """Variational autoencoder of networks, whose tokens are neurons with their rows of weights.

    Encoder: pre-norm transformer blocks over neurons; learned queries read them in each block, and their slots give the
    posterior of the latent, together with a linear map of the neurons by level and place. Decoder, in parallel for all
    vertices: the architecture from the latent; then the weights from the latent and the architecture. The weight of an
    edge is the sum of a bilinear form of child and parent and, between adjacent levels, of a row and of a column.

    Args:
        sizes: Room for networks.
        attention: Mechanism between neurons, and from the queries to them where it can answer queries from outside.
        latent: Width of the latent.
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of blocks of the encoder.
        architecture_layers: Number of blocks that decode the architecture.
        weight_layers: Number of blocks that decode the weights.
        slots: Number of learned queries, and of tokens that a latent is decoded from.
        meta: What the decoder is told of the task: ``token`` = its meta-features as a token; ``concat`` = concatenated
            to the latent; ``rows`` = a learned encoding of its rows; ``none``.
    """

    def __init__(
        self,
        sizes: Sizes,
        attention: AttentionFactory = Softmax,
        *,
        latent: int = 64,
        dim: int = 128,
        heads: int = 4,
        hidden: int = 256,
        layers: int = 4,
        architecture_layers: int = 2,
        weight_layers: int = 4,
        slots: int = 16,
        meta: Meta = "token",
    ) -> None:
        encoder = TaskEncoder(meta, sizes, dim)
        super().__init__(sizes, latent, encoder.width)
        check_least(dim=(dim, 1), hidden=(hidden, 1), slots=(slots, 1), layers=(layers, 1))
        check_least(architecture_layers=(architecture_layers, 1), weight_layers=(weight_layers, 1))

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(row_block(dim, heads, hidden, attention, norm="before") for _ in range(count))

        self.task_encoder = encoder
        self.places = Places(sizes, dim)
        self.numbers = nn.Linear(4 * sizes.width + 2 * sizes.vertices + 2, dim)
        nn.init.normal_(self.numbers.weight, std=SMALL)
        self.queries = nn.Parameter(torch.randn(slots, dim) * 0.5)
        self.encoder = blocks(layers)
        self.encoder_norm = nn.LayerNorm(dim)
        self.cells = nn.Linear(dim, CELL)
        grid = sizes.levels * sizes.width * CELL
        self.posterior = nn.Linear(slots * dim, 2 * latent)
        self.grid_posterior = nn.Linear(grid, 2 * latent, bias=False)
        with torch.no_grad():
            # Little noise at first: else the latent says nothing, and the decoder learns to ignore it.
            self.posterior.bias[latent:] = -5.0
            # Means of about the spread of N(0, I) from the first step on.
            for layer in (self.posterior, self.grid_posterior):
                layer.weight[:latent] *= 4
        self.decoder = Decoder(sizes, latent, encoder, dim, slots, blocks(architecture_layers), blocks(weight_layers))

    def tell(self, task: TaskRows) -> Tensor:
        return self.task_encoder(task)

    def tokens(self, tokens: NeuronTokens) -> Tensor:
        """Embed neurons with their weights, ``(networks, tokens, dim)``."""
        weight, bias = self.standardised(tokens)
        weight, bias = weight.asinh(), bias.asinh()
        edge = tokens.edge.float()
        places, adjacent = neighbours(tokens, self.sizes.width)
        near = torch.stack([weight, edge], 1) * adjacent[:, None]
        incoming, outgoing = near @ places[:, None], near.mT @ places[:, None]
        far = torch.stack([weight, edge], 1) * ~adjacent[:, None]
        far = F.pad(far, (0, self.sizes.vertices - far.shape[-1]))
        biased = (tokens.flags & 2) > 0
        numbers = [*incoming.unbind(1), *outgoing.unbind(1), *far.unbind(1), bias[..., None], biased[..., None]]
        return self.places(tokens) + self.numbers(torch.cat(numbers, dim=-1))

    def sites(self) -> dict[str, int]:
        behind = self.decoder.slots + (self.decoder.task is not None)
        first = {"encoder": 0, "decoder": behind}
        return {
            path: first[path.partition(".")[0]]
            for path, module in self.named_modules()
            if isinstance(module, Mechanism) and path.endswith(".attention.mechanism")
        }

    def encode(self, tokens: NeuronTokens) -> Posterior:
        room = tokens.mask.shape[1]
        mask = tokens.mask[:, None, None]
        found = torch.cat([self.tokens(tokens), self.queries.expand(len(tokens.mask), -1, -1)], dim=1)
        for block in self.encoder:
            found = block(found, room, mask)
        found = self.encoder_norm(found)
        neurons = self.cells(found[:, :room]) * tokens.mask[..., None]
        cell = self.places.cell(tokens)[..., None].expand_as(neurons)
        grid = neurons.new_zeros(len(neurons), self.sizes.levels * self.sizes.width, CELL)
        grid = grid.scatter_add(1, cell, neurons)
        both = self.posterior(found[:, room:].flatten(1)) + self.grid_posterior(grid.flatten(1))
        mean, log_variance = both.float().chunk(2, dim=-1)
        return Posterior(mean, log_variance.clamp(-12, 4))

    def architecture(self, latent: Tensor, told: Tensor, tokens: int) -> Architecture:
        return self.decoder.architecture(latent, told, tokens)

    def weights(self, latent: Tensor, told: Tensor, tokens: NeuronTokens) -> tuple[Tensor, Tensor]:
        return self.decoder.weights(latent, told, tokens)


class Decoder(nn.Module):
    """Parallel decoder of networks, the architecture first.

    Args:
        sizes: Room for networks.
        latent: Width of the latent.
        task: Encoder of tasks.
        dim: Width of a token.
        slots: Number of tokens that a latent becomes.
        first: Blocks for the architecture.
        second: Blocks for the weights.
    """

    def __init__(
        self,
        sizes: Sizes,
        latent: int,
        task: TaskEncoder,
        dim: int,
        slots: int,
        first: nn.ModuleList,
        second: nn.ModuleList,
    ) -> None:
        super().__init__()
        self.sizes, self.slots, self.meta = sizes, slots, task.meta
        given = latent + (task.width if task.meta == "concat" else 0)
        alone = task.meta in ("token", "rows")
        self.task = nn.Sequential(nn.Linear(task.width, dim), nn.SiLU(), nn.Linear(dim, dim)) if alone else None
        self.first, self.second = first, second
        self.latents = nn.ModuleList(nn.Linear(given, slots * dim) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.queries = nn.Parameter(torch.randn(sizes.vertices, dim) * 0.5)
        self.query_cells = nn.Linear(given, sizes.vertices * CELL)
        self.grid = nn.Linear(given, sizes.levels * sizes.width * CELL)
        self.widen = nn.ModuleList(nn.Linear(CELL, dim) for _ in range(2))
        self.places = Places(sizes, dim)
        self.heads = nn.Linear(dim, 1 + TYPES + sizes.levels + FLAGS)
        self.pairs = nn.Linear(dim, 2 * dim)
        self.rise = nn.Parameter(torch.zeros(sizes.levels, sizes.levels))
        self.products = nn.Linear(dim, 2 * dim)
        self.rows = nn.Linear(dim, 2 * sizes.width + 1)

    def _given(self, latent: Tensor, told: Tensor) -> Tensor:
        return torch.cat([latent, told], dim=-1) if self.meta == "concat" else latent

    def _slots(self, given: Tensor, told: Tensor, stage: int) -> Tensor:
        """Tokens of a latent, and of a task."""
        slots = self.latents[stage](given).unflatten(-1, (self.slots, -1))
        return slots if self.task is None else torch.cat([slots, self.task(told)[:, None].to(slots.dtype)], dim=1)

    def architecture(self, latent: Tensor, told: Tensor, tokens: int) -> Architecture:
        """Logits of architectures."""
        given = self._given(latent, told)
        slots = self._slots(given, told, 0)
        cells = self.query_cells(given).unflatten(-1, (-1, CELL))[:, :tokens]
        found = torch.cat([slots, self.queries[:tokens] + self.widen[0](cells)], dim=1)
        for block in self.first:
            found = block(found)
        found = self.norms[0](found[:, slots.shape[1] :])
        presence, kind, level, flags = self.heads(found).float().split([1, TYPES, self.sizes.levels, FLAGS], dim=-1)
        child, parent = self.pairs(found).float().chunk(2, dim=-1)
        return Architecture(
            presence[..., 0], kind, level, flags, child @ parent.mT * child.shape[-1] ** -0.5, self.rise.float()
        )

    def weights(self, latent: Tensor, told: Tensor, tokens: NeuronTokens) -> tuple[Tensor, Tensor]:
        """Weights and biases of given architectures."""
        given = self._given(latent, told)
        slots = self._slots(given, told, 1)
        cell = self.places.cell(tokens)[..., None].expand(-1, -1, CELL)
        cells = self.grid(given).unflatten(-1, (-1, CELL)).gather(1, cell)
        found = torch.cat([slots, self.places(tokens) + self.widen[1](cells)], dim=1)
        mask = torch.cat([tokens.mask.new_ones(slots.shape[:2]), tokens.mask], dim=1)[:, None, None]
        for block in self.second:
            found = block(found, mask=mask)
        found = self.norms[1](found[:, slots.shape[1] :])
        child, parent = self.products(found).chunk(2, dim=-1)
        width = self.sizes.width
        row, column, bias = self.rows(found).split([width, width, 1], dim=-1)
        places, adjacent = neighbours(tokens, width)
        near = (row @ places.mT + places @ column.mT) * adjacent
        return child @ parent.mT * child.shape[-1] ** -0.5 + near, bias[..., 0]
