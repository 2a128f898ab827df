"""Prior dumps: HDF5 files of in-context tasks, written by ``python -m datamodules.dump`` and from Python.

``write_tasks`` writes ready tasks, ``cut_tasks`` cuts them from a table.
"""

from datamodules.prior.dump.arrays import write_tasks
from datamodules.prior.dump.jobs import Written
from datamodules.prior.dump.tables import cut_tasks

__all__ = ["Written", "cut_tasks", "write_tasks"]
