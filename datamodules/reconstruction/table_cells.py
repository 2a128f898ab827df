"""Datamodule of one real table whose hidden cells are to be reconstructed."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_info

from datamodules.counter import Seed
from datamodules.reconstruction.loaders import CellLoaders
from datamodules.reconstruction.options import (
    DEFAULT_CONTEXT,
    DEFAULT_MASKS,
    DEFAULT_SPLIT,
    ContextOptions,
    MaskOptions,
    SplitOptions,
)
from datamodules.tables.source import Source

if TYPE_CHECKING:
    from datamodules.reconstruction.read import Prepared


class TableCells(CellLoaders):
    """One real table, some of whose cells are hidden: features in training, and targets of held-out rows.

    The rows are split into training, validation and test rows. Means, standard deviations and categories are those of
    the training rows, unless ``context.transductive``.

    Args:
        table: The table: ``sklearn:<name>``, ``openml:<id or name>``, ``poker:<hands>`` (generated) or a file (csv,
            tsv, arff, parquet, each plain or with .gz); ``::<column>`` behind it names the target. From Python a
            DataFrame too.
        target: Target columns; none = that of the source.
        split: Options of the split into training, validation and test rows.
        masks: Options of hidden cells.
        context: Options of the rows that are seen together.
        drop: Columns to leave out.
        categorical: Columns that are categorical, also if their categories are numbers: classes 0 and 1 of a CSV file,
            say. Text, booleans, pandas' category type and nominal attributes of ARFF files are so without.
        steps_per_epoch: Batches per epoch (on each device); validation may run at its end.
        cache_dir: Cache folder of OpenML; none = ``$OPENML_CACHE_DIR``, else OpenML's default.
        seed: Seed of the split, the batches and the hidden cells; of two, the second is that of the training batches
            alone.
        num_workers: Worker processes of the training loader; 0 = hide cells in the training process.
    """

    def __init__(
        self,
        table: Source = "sklearn:breast_cancer",
        target: str | tuple[str, ...] | None = None,
        *,
        split: SplitOptions = DEFAULT_SPLIT,
        masks: MaskOptions = DEFAULT_MASKS,
        context: ContextOptions = DEFAULT_CONTEXT,
        drop: str | tuple[str, ...] = (),
        steps_per_epoch: int = 50,
        categorical: str | tuple[str, ...] = (),
        cache_dir: str | None = None,
        seed: Seed = 42,
        num_workers: int = 0,
    ) -> None:
        from datamodules.reconstruction.read import prepare

        super().__init__(steps_per_epoch, seed, num_workers)
        names = _names(target), _names(drop), _names(categorical)
        self.prepared: Prepared = prepare(table, *names, cache_dir, split, masks, context, self.seeds.scored)
        self.cells = self.prepared.cells
        self.duplicated = self.prepared.duplicated
        rank_zero_info(self.prepared.told())


def _names(given: object) -> tuple[str, ...]:
    """Names of columns as text, as tables have them, from one name, several or none."""
    if given is None:
        return ()
    names = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    return tuple(str(name) for name in names)
