"""Optimizers and learning-rate schedules, chosen by name on the command line."""

from tabattn.optim.lookahead import LookaheadLamb
from tabattn.optim.muon import MuonAdamW
from tabattn.optim.schedule import FlatCosine, WarmupCosine

__all__ = ["FlatCosine", "LookaheadLamb", "MuonAdamW", "WarmupCosine"]
