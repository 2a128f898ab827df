"""In-context classification of tables: registry of its networks."""

from tabattn.prior.classifier_network import ContextClassifier, NetworkFactory
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions

NETWORKS: dict[str, type[ContextClassifier]] = {"PriorNetwork": PriorNetwork, "NanoTabPFN": NanoTabPFN}
"""Every network of the task, by name."""

__all__ = ["NETWORKS", "ContextClassifier", "NanoTabPFN", "NetworkFactory", "PriorNetwork", "PriorOptions"]
