"""Parallel decoder of networks: the architecture first, then its weights."""

import torch
from torch import Tensor, nn

from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.coder import FLAGS, TYPES, Architecture, Sizes
from tabattn.zoo.places import CELL, WIDE, Cells, Places, neighbours
from tabattn.zoo.told import TaskEncoder


class Decoder(nn.Module):
    """Parallel decoder of networks, the architecture first.

    Args:
        sizes: Room for networks.
        latent: Widths of what the architecture and the weights are decoded from.
        task: Encoder of tasks.
        dim: Width of a token.
        slots: Number of tokens that a latent becomes.
        first: Blocks for the architecture.
        second: Blocks for the weights.
    """

    def __init__(
        self,
        sizes: Sizes,
        latent: tuple[int, int],
        task: TaskEncoder,
        dim: int,
        slots: int,
        first: nn.ModuleList,
        second: nn.ModuleList,
    ) -> None:
        super().__init__()
        self.sizes, self.slots = sizes, slots
        self.concatenated = task.meta in ("concat", "rows")
        given, own = (each + (task.width if self.concatenated else 0) for each in latent)
        alone = task.meta in ("token", "rows")
        self.task = nn.Sequential(nn.Linear(task.width, dim), nn.SiLU(), nn.Linear(dim, dim)) if alone else None
        self.first, self.second = first, second
        self.latents = nn.ModuleList(nn.Linear(each, slots * dim) for each in (given, own))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.queries = nn.Parameter(torch.randn(sizes.vertices, dim) * 0.5)
        self.query_cells = Cells(given, sizes.vertices, WIDE)
        self.grid = Cells(own, sizes.levels * sizes.width, WIDE)
        self.widen = nn.ModuleList(nn.Linear(CELL, dim) for _ in range(2))
        self.places = Places(sizes, dim)
        self.heads = nn.Linear(dim, 1 + TYPES + sizes.levels + FLAGS)
        self.pairs = nn.Linear(dim, 2 * dim)
        self.rise = nn.Parameter(torch.zeros(sizes.levels, sizes.levels))
        self.products = nn.Linear(dim, 2 * dim)
        self.rows = nn.Linear(dim, 2 * sizes.width + 1)

    def _given(self, latent: Tensor, told: Tensor) -> Tensor:
        return torch.cat([latent, told], dim=-1) if self.concatenated else latent

    def _slots(self, given: Tensor, told: Tensor, stage: int) -> Tensor:
        """Tokens of a latent, and of a task."""
        slots = self.latents[stage](given).unflatten(-1, (self.slots, -1))
        return slots if self.task is None else torch.cat([slots, self.task(told)[:, None].to(slots.dtype)], dim=1)

    def architecture(self, latent: Tensor, told: Tensor, tokens: int) -> Architecture:
        """Logits of architectures, of which ``latent`` is what they are decoded from."""
        given = self._given(latent, told)
        slots = self._slots(given, told, 0)
        cells = self.query_cells(given)[:, :tokens]
        found = torch.cat([slots, self.queries[:tokens] + self.widen[0](cells)], dim=1)
        for block in self.first:
            found = block(found)
        found = self.norms[0](found[:, slots.shape[1] :])
        presence, kind, level, flags = self.heads(found).float().split([1, TYPES, self.sizes.levels, FLAGS], dim=-1)
        child, parent = self.pairs(found).float().chunk(2, dim=-1)
        pair = child @ parent.mT * child.shape[-1] ** -0.5
        return Architecture(presence[..., 0], kind, level, flags, pair, self.rise.float())

    def weights(self, latent: Tensor, told: Tensor, tokens: NeuronTokens) -> tuple[Tensor, Tensor]:
        """Weights and biases of given architectures, of which ``latent`` is what they are decoded from."""
        given = self._given(latent, told)
        slots = self._slots(given, told, 1)
        cell = self.places.cell(tokens)[..., None].expand(-1, -1, CELL)
        cells = self.grid(given).gather(1, cell)
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
