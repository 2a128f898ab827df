"""What looks at a run and draws it; nothing here takes part in training."""

from callbacks.attention_maps import AttentionMaps
from callbacks.embeddings import Embeddings

__all__ = ["AttentionMaps", "Embeddings"]
