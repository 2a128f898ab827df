"""Registry of tasks: importing this module makes every task known to the command line."""

from tabattn.mlm.task import MaskedLanguageModel
from tabattn.pairs.task import PairInference
from tabattn.prior.regression import PriorRegression
from tabattn.prior.task import PriorClassification
from tabattn.reconstruction.task import TableReconstruction
from tabattn.sparsity.task import SparsefinderProjections
from tabattn.task import Task
from tabattn.zoo.task import NetworkVAE

__all__ = [
    "MaskedLanguageModel",
    "NetworkVAE",
    "PairInference",
    "PriorClassification",
    "PriorRegression",
    "SparsefinderProjections",
    "TableReconstruction",
    "Task",
]
