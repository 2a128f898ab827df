"""LightningModules: one file per task, with its loss, metrics and steps."""

from tabattn.tasks.base import Task
from tabattn.tasks.pairs import PairInference
from tabattn.tasks.prior import PriorClassification

__all__ = ["PairInference", "PriorClassification", "Task"]
