"""Zoo: networks as data, tokenised without loss."""

from tabattn.contract.dag_net import DAGNet
from tabattn.contract.graphs import NeuronDAG, Population
from tabattn.contract.modules import UnsupportedModule, from_module, to_module
from tabattn.contract.networks import NetworkBatch, NeuronTokens
from tabattn.metafeatures import get_meta_features
from tabattn.zoo.canonical import canonical, permuted
from tabattn.zoo.executor import execute
from tabattn.zoo.sensitivity import edge_weighting, neuron_sensitivity
from tabattn.zoo.tokens import TOKENIZERS, EdgeTokens, MatrixTokens, detokenize, tokenize

__all__ = [
    "TOKENIZERS",
    "DAGNet",
    "EdgeTokens",
    "MatrixTokens",
    "NetworkBatch",
    "NeuronDAG",
    "NeuronTokens",
    "Population",
    "UnsupportedModule",
    "canonical",
    "detokenize",
    "edge_weighting",
    "execute",
    "from_module",
    "get_meta_features",
    "neuron_sensitivity",
    "permuted",
    "to_module",
    "tokenize",
]
