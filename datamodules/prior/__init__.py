"""Datamodules of in-context classification: synthetic tables, and tasks cut from real ones."""

from datamodules.prior.options import BatchOptions, DrawOptions, FoldEvaluation, ReadingOptions, TaskEvaluation
from datamodules.prior.scm_options import ClassOptions, ColumnOptions, NetworkOptions, ScmOptions

__all__ = [
    "BatchOptions",
    "ClassOptions",
    "ColumnOptions",
    "DrawOptions",
    "FoldEvaluation",
    "NetworkOptions",
    "ReadingOptions",
    "ScmOptions",
    "TaskEvaluation",
]
