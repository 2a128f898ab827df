"""Every network of sequence pairs, by name."""

from collections.abc import Callable

from tabattn.pairs.network import TNPD, PairNetwork
from tabattn.pairs.seed import SeedNetwork
from tabattn.pairs.tnpa import TNPA

ARCHITECTURES: dict[str, Callable[..., PairNetwork]] = {"tnpd": TNPD, "tnpa": TNPA, "seed": SeedNetwork}
"""All take the same arguments."""
