"""Registry of tasks: importing this module makes every task known to the command line."""

from tabattn.pairs.task import PairInference
from tabattn.prior.task import PriorClassification
from tabattn.reconstruction.task import TableReconstruction
from tabattn.task import Task

__all__ = ["PairInference", "PriorClassification", "TableReconstruction", "Task"]
