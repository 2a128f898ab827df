"""Zoo: networks as data, tokenised without loss."""

from tabattn.contract.dag_net import DAGNet
from tabattn.contract.graphs import NeuronDAG, Population
from tabattn.contract.modules import UnsupportedModule, from_module, to_module
from tabattn.contract.networks import NetworkBatch, NeuronTokens
from tabattn.metafeatures import get_meta_features
from tabattn.zoo.canonical import canonical, permuted
from tabattn.zoo.coder import NetworkCoder, NetworkFactory, Sizes
from tabattn.zoo.executor import execute
from tabattn.zoo.loss import LossOptions
from tabattn.zoo.matrix import ConvMatrix, MLPMatrix
from tabattn.zoo.network import NeuronTransformer
from tabattn.zoo.options import PredictOptions
from tabattn.zoo.sensitivity import edge_weighting, neuron_sensitivity
from tabattn.zoo.tokens import TOKENIZERS, EdgeTokens, MatrixTokens, detokenize, tokenize

NETWORKS: dict[str, type[NetworkCoder]] = {
    "ConvMatrix": ConvMatrix,
    "MLPMatrix": MLPMatrix,
    "NeuronTransformer": NeuronTransformer,
}
"""Every network of the task, by name."""

__all__ = [
    "NETWORKS",
    "TOKENIZERS",
    "ConvMatrix",
    "DAGNet",
    "EdgeTokens",
    "LossOptions",
    "MLPMatrix",
    "MatrixTokens",
    "NetworkBatch",
    "NetworkCoder",
    "NetworkFactory",
    "NeuronDAG",
    "NeuronTokens",
    "NeuronTransformer",
    "Population",
    "PredictOptions",
    "Sizes",
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
