"""Optimizers and learning-rate schedules, chosen by name on the command line."""

from tabattn.optim.muon import MuonAdamW
from tabattn.optim.schedule import WarmupCosine

__all__ = ["MuonAdamW", "WarmupCosine"]
