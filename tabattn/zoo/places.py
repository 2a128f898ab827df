"""What a vertex is and where: embeddings, and vectors for each place of the grid of levels and places in them."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.coder import FLAGS, TYPES, Sizes

CELL = 16
"""Width of what a place of the grid of levels and places adds to the latent, or gets from it."""

WIDE = 256
"""Width of the hidden layer between a latent and places."""
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


class Cells(nn.Module):
    """Map of a latent to a vector for each place: a linear one, and a multilayer perceptron.

    Args:
        given: Width of what is given.
        places: Number of places.
        hidden: Width of the hidden layer.
    """

    def __init__(self, given: int, places: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(given, places * CELL)
        self.mlp = nn.Sequential(nn.Linear(given, hidden), nn.SiLU(), nn.Linear(hidden, places * CELL))

    def forward(self, given: Tensor) -> Tensor:
        """Return vectors ``(networks, places, CELL)``."""
        return (self.linear(given) + self.mlp(given)).unflatten(-1, (-1, CELL))
