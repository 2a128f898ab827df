"""Every task by name; importing this module makes them known to the command line."""

from tabattn.pairs.task import PairInference
from tabattn.prior.task import PriorClassification
from tabattn.task import Task

__all__ = ["PairInference", "PriorClassification", "Task"]
