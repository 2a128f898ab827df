"""Ensemble of trained networks with the rows that they condition on; predictions of cells."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tabattn.contract.cells import CellBatch, Column
from tabattn.nn.densities import mixture, parts
from tabattn.reconstruction.cell_network import CellNetwork, Kinds, Reconstruction
from tabattn.reconstruction.metrics import mixed
from tabattn.storage.described import plain_defaults


class Members(NamedTuple):
    """Networks, and the rows that they attend to.

    Attributes:
        networks: The networks, on the CPU.
        columns: The columns.
        known: Standardised cells of the rows of ``fit``, ``(rows, columns)``; NaN = missing.
        contexts: Numbers of the rows of each context.
    """

    networks: list[CellNetwork]
    columns: tuple[Column, ...]
    known: Tensor
    contexts: list[Tensor]

    @property
    def kinds(self) -> Kinds:
        """Places of numeric and categorical columns."""
        return Kinds.of(self.columns)

    def predict(self, cells: Tensor, device: torch.device, chunk: int) -> Reconstruction:
        """Predict all cells of rows, averaged over networks and contexts; rows do not influence one another.

        Args:
            cells: Standardised cells, ``(rows, columns)``; NaN = to be predicted.
            device: Device of the computation.
            chunk: Most rows at a time.

        Returns:
            Predictions on the CPU, of batch shape ``(1, rows, ...)``; the logits are logarithms of mean probabilities.
        """
        pieces = []
        with plain_defaults(), torch.inference_mode():
            networks = [network.to(device) for network in self.networks]
            for piece in cells.split(chunk) or [cells]:
                found = [self._behind(network, rows, piece, device) for network in networks for rows in self.contexts]
                pieces.append(pooled(found))
            for network in networks:
                network.cpu()
        return joined(pieces)

    def _behind(self, network: CellNetwork, rows: Tensor, piece: Tensor, device: torch.device) -> Reconstruction:
        """Predictions of some rows behind one context."""
        cells = torch.cat([self.known[rows], piece])[None].to(device)
        number = torch.cat([rows, rows.new_full((len(piece),), -1)])[None].to(device)
        nothing = torch.zeros_like(cells, dtype=torch.bool)
        batch = CellBatch(cells.nan_to_num(0.0), cells.isnan(), cells, nothing, len(rows), number)
        found = network.reconstruct(batch)
        density = mixture(*(part[:, len(rows) :] for part in parts(found.density)))
        return Reconstruction(found.mean[:, len(rows) :], density, found.logits[:, len(rows) :])


def pooled(found: Sequence[Reconstruction]) -> Reconstruction:
    """Average predictions of the same rows: means, probabilities, and densities as a mixture."""
    mean = torch.stack([each.mean for each in found]).mean(0).cpu()
    spread = [parts(each.density) for each in found]
    density = mixed(mixture(*(torch.cat([each[at] for each in spread]).cpu() for at in range(3))))
    density = mixture(*(part[None] for part in parts(density)))
    logits = torch.stack([each.logits.softmax(-1) for each in found]).mean(0).log().cpu()
    return Reconstruction(mean, density, logits)


def joined(pieces: Sequence[Reconstruction]) -> Reconstruction:
    """Join predictions of different rows."""
    spread = [parts(piece.density) for piece in pieces]
    density = mixture(*(torch.cat([each[at] for each in spread], dim=1) for at in range(3)))
    return Reconstruction(
        torch.cat([piece.mean for piece in pieces], dim=1),
        density,
        torch.cat([piece.logits for piece in pieces], dim=1),
    )
