"""Inference between sequences: networks, task, layout and trajectories."""

from tabattn.pairs.attended import Attended, attended, target_layers
from tabattn.pairs.layout import lay_out
from tabattn.pairs.mixtures import LEVELS
from tabattn.pairs.network import NetworkFactory, PairNetwork
from tabattn.pairs.options import InferenceOptions, TokenOptions
from tabattn.pairs.seed import SeedNetwork
from tabattn.pairs.tnpa import TNPA
from tabattn.pairs.tnpd import TNPD
from tabattn.pairs.trajectories import Trajectories, trajectories

NETWORKS: dict[str, type[PairNetwork]] = {"TNPD": TNPD, "TNPA": TNPA, "SeedNetwork": SeedNetwork}
"""Every network of sequence pairs, by name."""

__all__ = [
    "LEVELS",
    "NETWORKS",
    "TNPA",
    "TNPD",
    "Attended",
    "InferenceOptions",
    "NetworkFactory",
    "PairNetwork",
    "SeedNetwork",
    "TokenOptions",
    "Trajectories",
    "attended",
    "lay_out",
    "target_layers",
    "trajectories",
]
