"""Every network of sequence pairs, by name."""

from tabattn.models.pairs import TNPD, PairNetwork
from tabattn.models.pairs_autoregressive import TNPA
from tabattn.models.pairs_seed import SeedNetwork

ARCHITECTURES: dict[str, type[PairNetwork]] = {"tnpd": TNPD, "tnpa": TNPA, "seed": SeedNetwork}
"""All take the same arguments."""
