"""From the columns of a real table, in any container, to numbers: the one place where cells are read."""

from tabattn.encode.frames import MOST_CELLS, as_frame, check_cells
from tabattn.encode.labels import encode_labels, sorted_labels
from tabattn.encode.reading import Reading, is_numeric, learn
from tabattn.encode.scale import Standard, recode, to_single
from tabattn.encode.table import TableEncoder
from tabattn.encode.text import Floats

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
    "recode",
    "sorted_labels",
    "to_single",
]
