"""Column encoding: the columns of a real table, in any container, as numbers; all cells are read here."""

from tabattn.contract.columns.cells import declared
from tabattn.contract.columns.classes import check_labels, number_labels
from tabattn.contract.columns.doubts import about_unread, doubts
from tabattn.contract.columns.frames import MOST_CELLS, as_frame, check_cells, checked_table
from tabattn.contract.columns.labels import (
    encode_labels,
    missing_words,
    sorted_labels,
    told,
    warn_of_labels,
    warn_of_words,
)
from tabattn.contract.columns.reading import Reading, is_numeric, learn
from tabattn.contract.columns.scale import Standard, drawn_in, recode, to_single
from tabattn.contract.columns.table import TableEncoder
from tabattn.contract.columns.text import Floats

__all__ = [
    "MOST_CELLS",
    "Floats",
    "Reading",
    "Standard",
    "TableEncoder",
    "about_unread",
    "as_frame",
    "check_cells",
    "check_labels",
    "checked_table",
    "declared",
    "doubts",
    "drawn_in",
    "encode_labels",
    "is_numeric",
    "learn",
    "missing_words",
    "number_labels",
    "recode",
    "sorted_labels",
    "to_single",
    "told",
    "warn_of_labels",
    "warn_of_words",
]
