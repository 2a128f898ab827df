"""Reconstruction of hidden cells of tables: registry of its networks."""

from tabattn.reconstruction.cell_network import CellNetwork, NetworkFactory
from tabattn.reconstruction.corrected import ProcessTransformer
from tabattn.reconstruction.jointly_corrected import GaussianTransformer
from tabattn.reconstruction.legacy import LegacyNPT
from tabattn.reconstruction.network import CellTransformer
from tabattn.reconstruction.options import LossOptions, PredictOptions
from tabattn.reconstruction.patches import PatchTransformer

NETWORKS: dict[str, type[CellNetwork]] = {
    "CellTransformer": CellTransformer,
    "GaussianTransformer": GaussianTransformer,
    "LegacyNPT": LegacyNPT,
    "PatchTransformer": PatchTransformer,
    "ProcessTransformer": ProcessTransformer,
}
"""Every network of the task, by name."""

__all__ = [
    "NETWORKS",
    "CellNetwork",
    "CellTransformer",
    "GaussianTransformer",
    "LegacyNPT",
    "LossOptions",
    "NetworkFactory",
    "PatchTransformer",
    "PredictOptions",
    "ProcessTransformer",
]
