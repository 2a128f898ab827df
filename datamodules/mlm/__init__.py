"""Datamodule of masked language modelling: local text, its tokenizer, and hidden tokens."""

from datamodules.mlm.options import MaskOptions, SplitOptions

__all__ = ["MaskOptions", "SplitOptions"]
