"""Inferring the rest of a sequence from another one: layout of a task, and trajectories of its targets."""

from tabattn.inference.attended import Attended, attended
from tabattn.inference.draw import Trajectories, trajectories
from tabattn.inference.layout import lay_out
from tabattn.inference.mixtures import LEVELS
from tabattn.inference.options import InferenceOptions

__all__ = ["LEVELS", "Attended", "InferenceOptions", "Trajectories", "attended", "lay_out", "trajectories"]
