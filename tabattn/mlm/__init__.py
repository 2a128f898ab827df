"""Masked language modelling with any mechanism, around the models of ``transformers``."""

from tabattn.mlm.options import PredictOptions

__all__ = ["PredictOptions"]
