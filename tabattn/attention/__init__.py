"""Registry of attention mechanisms: ``MECHANISMS`` maps a name to its class. Imports torch and adasplash alone."""

from tabattn.attention.capture import Record, capture
from tabattn.attention.choice import as_factory
from tabattn.attention.entmax import Entmax
from tabattn.attention.inducing import Inducing
from tabattn.attention.linear import Linear
from tabattn.attention.local import Local
from tabattn.attention.mechanism import AttentionFactory, Mechanism
from tabattn.attention.nystrom import Nystrom
from tabattn.attention.pooling import Pooling
from tabattn.attention.scratch import Scratch
from tabattn.attention.softmax import Softmax
from tabattn.attention.sparse import Sparse
from tabattn.attention.sparsefinder import Sparsefinder
from tabattn.attention.topk import TopK

MECHANISMS: dict[str, type[Mechanism]] = {
    "Softmax": Softmax,
    "Scratch": Scratch,
    "Sparse": Sparse,
    "Local": Local,
    "Pooling": Pooling,
    "Inducing": Inducing,
    "Linear": Linear,
    "Nystrom": Nystrom,
    "TopK": TopK,
    "Entmax": Entmax,
    "Sparsefinder": Sparsefinder,
}

__all__ = [
    "MECHANISMS",
    "AttentionFactory",
    "Entmax",
    "Inducing",
    "Linear",
    "Local",
    "Mechanism",
    "Nystrom",
    "Pooling",
    "Record",
    "Scratch",
    "Softmax",
    "Sparse",
    "Sparsefinder",
    "TopK",
    "as_factory",
    "capture",
]
