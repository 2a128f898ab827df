"""Datamodules of inference between sequences: Gaussian processes, and columns of real tables."""

from datamodules.pairs.options import Augmentation, LongNames, SeriesOptions, SplitEvaluation, WindowOptions
from datamodules.pairs.synthetic_options import CacheOptions, ProcessOptions, SyntheticEvaluation

__all__ = [
    "Augmentation",
    "CacheOptions",
    "LongNames",
    "ProcessOptions",
    "SeriesOptions",
    "SplitEvaluation",
    "SyntheticEvaluation",
    "WindowOptions",
]
