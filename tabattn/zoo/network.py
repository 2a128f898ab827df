"""NeuronTransformer: the default network of the zoo."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.contract.checks import check_least
from tabattn.contract.graphs import OUTPUT
from tabattn.contract.networks import NeuronTokens
from tabattn.nn.block import row_block
from tabattn.zoo.coder import Architecture, NetworkCoder, Posterior, Sizes, TaskRows
from tabattn.zoo.decoder import Decoder
from tabattn.zoo.executor import execute
from tabattn.zoo.places import CELL, SMALL, Places, neighbours
from tabattn.zoo.told import Meta, TaskEncoder


class Readout(nn.Module):
    """Posterior of the latent: a linear map of the slots, and one of the neurons by their level and place.

    Args:
        sizes: Room for networks.
        latent: Width of the latent.
        dim: Width of a token.
        slots: Number of slots.
    """

    def __init__(self, sizes: Sizes, latent: int, dim: int, slots: int) -> None:
        super().__init__()
        self.places = sizes.levels * sizes.width
        self.cells = nn.Linear(dim, CELL)
        self.slots = nn.Linear(slots * dim, 2 * latent)
        self.grid = nn.Linear(self.places * CELL, 2 * latent, bias=False)
        with torch.no_grad():
            # Little noise at first: else the latent says nothing, and the decoder learns to ignore it.
            self.slots.bias[latent:] = -5.0
            # Means of about the spread of N(0, I) from the first step on.
            for layer in (self.slots, self.grid):
                layer.weight[:latent] *= 4

    def forward(self, found: Tensor, mask: Tensor, cell: Tensor) -> Tensor:
        """Read neurons, and the slots behind them, to means and log-variances, ``(networks, 2 * latent)``.

        Args:
            found: Neurons and slots, ``(networks, tokens + slots, dim)``.
            mask: Whether there is a neuron, ``(networks, tokens)``.
            cell: Number of each neuron in the grid of levels and places, of that shape.
        """
        room = mask.shape[1]
        neurons = self.cells(found[:, :room]) * mask[..., None]
        grid = neurons.new_zeros(len(neurons), self.places, CELL)
        grid = grid.scatter_add(1, cell[..., None].expand_as(neurons), neurons)
        return self.slots(found[:, room:].flatten(1)) + self.grid(grid.flatten(1))


class ProbedOutputs(nn.Module):
    """Probe features: posterior of the latent from what a network computes on learned inputs (Kofinas et al. 2024).

    Weights alone show a function only through products of matrices, which few layers of attention do not compute.

    Args:
        sizes: Room for networks.
        latent: Width of the latent.
        probes: Number of inputs.
        hidden: Width of the hidden layer.
    """

    def __init__(self, sizes: Sizes, latent: int, probes: int, hidden: int = 256) -> None:
        super().__init__()
        self.inputs = nn.Parameter(torch.randn(probes, sizes.inputs))
        self.enter = nn.Linear(probes, hidden)
        self.places = nn.Embedding(sizes.width, hidden)
        self.leave = nn.Linear(hidden, 2 * latent, bias=False)
        self.straight = nn.Linear(probes, 2 * latent, bias=False)

    def forward(self, tokens: NeuronTokens) -> Tensor:
        """Add up over outputs; ``(networks, 2 * latent)``."""
        with torch.autocast(tokens.weight.device.type, enabled=False):
            x = self.inputs.float().expand(len(tokens.mask), -1, -1)
            values = execute(tokens, x).values.mT.asinh()
        hidden = self.enter(values) + self.places(tokens.place.clamp(max=self.places.num_embeddings - 1))
        found = self.leave(F.silu(hidden)) + self.straight(values)
        return (found * ((tokens.flags & OUTPUT) > 0)[..., None]).sum(1)


class NeuronTransformer(NetworkCoder):
    """Variational autoencoder of networks, whose tokens are neurons with their rows of weights.

    Encoder: pre-norm transformer blocks over neurons; learned queries read them in each block, and their slots give the
    posterior of the latent, together with a linear map of the neurons by level and place, and with what the network
    computes on learned inputs. Decoder, in parallel for all
    vertices: the architecture from the latent; then the weights from the latent and the architecture. The weight of an
    edge is the sum of a bilinear form of child and parent and, between adjacent levels, of a row and of a column.

    Args:
        sizes: Room for networks.
        attention: Mechanism between neurons, and from the queries to them where it can answer queries from outside.
        latent: Width of the latent; two numbers = of the part that the architecture is decoded from, and of the rest,
            for the weights; one = both are decoded from all of it.
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of blocks of the encoder.
        architecture_layers: Number of blocks that decode the architecture.
        weight_layers: Number of blocks that decode the weights.
        slots: Number of learned queries, and of tokens that a latent is decoded from.
        meta: What the decoder is told of the task: ``token`` = its meta-features as a token; ``concat`` = concatenated
            to the latent; ``rows`` = a ridge regression and a learned encoding of its rows; ``none``.
        probes: Number of learned inputs on which the encoder computes a network; 0 = it reads its weights alone.
    """

    def __init__(
        self,
        sizes: Sizes,
        attention: AttentionFactory = Softmax,
        *,
        latent: int | tuple[int, int] = 64,
        dim: int = 128,
        heads: int = 4,
        hidden: int = 256,
        layers: int = 4,
        architecture_layers: int = 2,
        weight_layers: int = 4,
        slots: int = 16,
        meta: Meta = "token",
        probes: int = 64,
    ) -> None:
        encoder = TaskEncoder(meta, sizes, dim)
        parts = (latent, latent) if isinstance(latent, int) else latent
        check_least(latent=(min(parts), 1))
        leading = 0 if isinstance(latent, int) else parts[0]
        super().__init__(sizes, leading + parts[1], encoder.width, leading)
        check_least(dim=(dim, 1), hidden=(hidden, 1), slots=(slots, 1), layers=(layers, 1), probes=(probes, 0))
        check_least(architecture_layers=(architecture_layers, 0), weight_layers=(weight_layers, 0))

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(row_block(dim, heads, hidden, attention, norm="before") for _ in range(count))

        self.task_encoder = encoder
        self.places = Places(sizes, dim)
        self.numbers = nn.Linear(4 * sizes.width + 2 * sizes.vertices + 2, dim)
        nn.init.normal_(self.numbers.weight, std=SMALL)
        self.queries = nn.Parameter(torch.randn(slots, dim) * 0.5)
        self.encoder = blocks(layers)
        self.encoder_norm = nn.LayerNorm(dim)
        self.readout = Readout(sizes, self.latent, dim, slots)
        self.probed = ProbedOutputs(sizes, self.latent, probes) if probes else None
        self.decoder = Decoder(sizes, parts, encoder, dim, slots, blocks(architecture_layers), blocks(weight_layers))

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
        mask = tokens.mask[:, None, None]
        found = torch.cat([self.tokens(tokens), self.queries.expand(len(tokens.mask), -1, -1)], dim=1)
        for block in self.encoder:
            found = block(found, tokens.mask.shape[1], mask)
        both = self.readout(self.encoder_norm(found), tokens.mask, self.places.cell(tokens))
        if self.probed is not None:
            both = both + self.probed(tokens)
        mean, log_variance = both.float().chunk(2, dim=-1)
        return Posterior(mean, log_variance.clamp(-12, 4))

    def architecture(self, latent: Tensor, told: Tensor, tokens: int) -> Architecture:
        return self.decoder.architecture(latent[:, : self.leading] if self.leading else latent, told, tokens)

    def weights(self, latent: Tensor, told: Tensor, tokens: NeuronTokens) -> tuple[Tensor, Tensor]:
        return self.decoder.weights(latent[:, self.leading :], told, tokens)
