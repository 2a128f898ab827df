"""The heart: every attention mechanism, by name. Imports torch and entmax only."""

from tabattn.attention.mechanism import AttentionFactory, Mechanism
from tabattn.attention.softmax import Softmax

MECHANISMS: dict[str, type[Mechanism]] = {
    "Softmax": Softmax,
}

__all__ = ["MECHANISMS", "AttentionFactory", "Mechanism", *MECHANISMS]
