"""One LightningDataModule per source of data; the only place that touches bytes."""

from datamodules.pairs.long import LongPairs
from datamodules.pairs.synthetic import SyntheticPairs
from datamodules.pairs.tables import TablePairs
from datamodules.prior.dump.prior_dump import PriorDump
from datamodules.prior.synthetic import SyntheticPrior
from datamodules.prior.tabicl import TabiclPrior
from datamodules.prior.table_tasks import TableTasks

__all__ = ["LongPairs", "PriorDump", "SyntheticPairs", "SyntheticPrior", "TabiclPrior", "TablePairs", "TableTasks"]
