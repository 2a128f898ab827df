"""Datamodules of reconstruction: tables whose hidden cells are to be filled."""

from datamodules.reconstruction.options import ContextOptions, MaskOptions, SplitOptions

__all__ = ["ContextOptions", "MaskOptions", "SplitOptions"]
