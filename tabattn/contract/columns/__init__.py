"""Column encoding: the columns of a real table, in any container, as numbers; all cells are read here."""

from tabattn.contract.columns.frames import MOST_CELLS, as_frame, check_cells
from tabattn.contract.columns.labels import (
    encode_labels,
    missing_words,
    sorted_labels,
    told,
    warn_of_labels,
    warn_of_words,
)
from tabattn.contract.columns.reading import Reading, is_numeric, learn
from tabattn.contract.columns.scale import Standard, recode, to_single
from tabattn.contract.columns.table import TableEncoder
from tabattn.contract.columns.text import Floats

__all__ = [
    "MOST_CELLS",
    "Floats",
    "Reading",
    "Standard",
    "TableEncoder",
    "as_frame",
    "check_cells",
    "encode_labels",
    "is_numeric",
    "learn",
    "missing_words",
    "recode",
    "sorted_labels",
    "to_single",
    "told",
    "warn_of_labels",
    "warn_of_words",
]
