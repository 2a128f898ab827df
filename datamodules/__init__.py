"""One LightningDataModule per source of data; the only place that touches bytes."""

from datamodules.long_pairs import LongPairs
from datamodules.pair_tables import TablePairs
from datamodules.pairs import SyntheticPairs
from datamodules.prior import SyntheticPrior
from datamodules.prior_dump import PriorDump
from datamodules.tabicl import TabiclPrior
from datamodules.table_tasks import TableTasks

__all__ = ["LongPairs", "PriorDump", "SyntheticPairs", "SyntheticPrior", "TabiclPrior", "TablePairs", "TableTasks"]
