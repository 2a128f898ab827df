"""One LightningDataModule per source of data; the only place that touches bytes."""

from datamodules.dump.prior_dump import PriorDump
from datamodules.pairs.long import LongPairs
from datamodules.pairs.synthetic import SyntheticPairs
from datamodules.pairs.tables import TablePairs
from datamodules.priors.synthetic import SyntheticPrior
from datamodules.priors.tabicl import TabiclPrior
from datamodules.priors.table_tasks import TableTasks

__all__ = ["LongPairs", "PriorDump", "SyntheticPairs", "SyntheticPrior", "TabiclPrior", "TablePairs", "TableTasks"]
