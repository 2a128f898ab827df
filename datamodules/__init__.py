"""Datamodules: one LightningDataModule for each source of data; all file access of the package is here."""

from datamodules.mlm.masked_text import MaskedText
from datamodules.pairs.long import LongPairs
from datamodules.pairs.synthetic import SyntheticPairs
from datamodules.pairs.tables import TablePairs
from datamodules.prior.dump.prior_dump import PriorDump
from datamodules.prior.regression import SyntheticRegression
from datamodules.prior.synthetic import SyntheticPrior
from datamodules.prior.tabicl import TabiclPrior
from datamodules.prior.table_tasks import TableTasks
from datamodules.reconstruction.image_cells import ImageCells
from datamodules.reconstruction.table_cells import TableCells
from datamodules.sparsity.queries_keys import QueriesKeys
from datamodules.zoo.network_zoo import NetworkZoo

__all__ = [
    "ImageCells",
    "LongPairs",
    "MaskedText",
    "NetworkZoo",
    "PriorDump",
    "QueriesKeys",
    "SyntheticPairs",
    "SyntheticPrior",
    "SyntheticRegression",
    "TabiclPrior",
    "TableCells",
    "TablePairs",
    "TableTasks",
]
