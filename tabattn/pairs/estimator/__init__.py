"""Scikit-learn estimator that infers sequences, trained on own arrays or on synthetic tasks."""

from datamodules.pairs.options import WindowOptions
from tabattn.pairs.estimator.inferrer import SequenceInferrer
from tabattn.pairs.estimator.observed import LongOptions
from tabattn.pairs.estimator.settings import InferrerSettings

__all__ = ["InferrerSettings", "LongOptions", "SequenceInferrer", "WindowOptions"]
