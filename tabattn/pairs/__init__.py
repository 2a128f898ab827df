"""Inferring the rest of a sequence from another one: layout of a task, and trajectories of its targets."""

from tabattn.pairs.attended import Attended, attended
from tabattn.pairs.layout import lay_out
from tabattn.pairs.mixtures import LEVELS
from tabattn.pairs.options import InferenceOptions
from tabattn.pairs.trajectories import Trajectories, trajectories

__all__ = ["LEVELS", "Attended", "InferenceOptions", "Trajectories", "attended", "lay_out", "trajectories"]
