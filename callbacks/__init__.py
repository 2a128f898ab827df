"""Callbacks that record, plot and time a run without changing the training, and one that anneals alpha."""

from callbacks.alpha_annealing import AlphaAnnealing
from callbacks.attention_maps import AttentionMaps
from callbacks.attention_swap import AttentionSwap
from callbacks.calibration import Calibration
from callbacks.compiled_blocks import CompiledBlocks
from callbacks.cuda_graphs import CudaGraphs
from callbacks.embeddings import Embeddings
from callbacks.graph_scores import GraphScoreTable
from callbacks.head_similarity import HeadSimilarity
from callbacks.history import History
from callbacks.hparams import HParams
from callbacks.look import Look
from callbacks.output_curves import OutputCurves
from callbacks.precision_recall import PrecisionRecall
from callbacks.prediction_plots import PredictionPlots
from callbacks.projections import Projections
from callbacks.provenance import Provenance
from callbacks.queries_keys import QueryKeyRecorder
from callbacks.task_examples import TaskExamples
from callbacks.throughput import Throughput
from callbacks.time_budget import TimeBudget
from callbacks.trajectories import Trajectories
from callbacks.weights import Weights
from tabattn.optim.divergence import DivergenceGuard

__all__ = [
    "AlphaAnnealing",
    "AttentionMaps",
    "AttentionSwap",
    "Calibration",
    "CompiledBlocks",
    "CudaGraphs",
    "DivergenceGuard",
    "Embeddings",
    "GraphScoreTable",
    "HParams",
    "HeadSimilarity",
    "History",
    "Look",
    "OutputCurves",
    "PrecisionRecall",
    "PredictionPlots",
    "Projections",
    "Provenance",
    "QueryKeyRecorder",
    "TaskExamples",
    "Throughput",
    "TimeBudget",
    "Trajectories",
    "Weights",
]
