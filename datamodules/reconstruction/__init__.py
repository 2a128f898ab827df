"""Datamodules of reconstruction: tables whose hidden cells are to be filled."""

from datamodules.reconstruction.options import ContextOptions, LookupOptions, MaskOptions, SplitOptions

__all__ = ["ContextOptions", "LookupOptions", "MaskOptions", "SplitOptions"]
