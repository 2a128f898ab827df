"""Every network of sequence pairs, by name."""

from collections.abc import Callable

from tabattn.models.pairs import TNPD, PairNetwork
from tabattn.models.pairs_autoregressive import TNPA
from tabattn.models.pairs_seed import SeedNetwork

ARCHITECTURES: dict[str, Callable[..., PairNetwork]] = {"tnpd": TNPD, "tnpa": TNPA, "seed": SeedNetwork}
"""All take the same arguments."""
