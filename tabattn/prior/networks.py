"""Every network of the task, by name."""

from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.network import PriorNetwork

NETWORKS: dict[str, type[ContextClassifier]] = {"PriorNetwork": PriorNetwork, "NanoTabPFN": NanoTabPFN}
"""All take ``(attention, feature_attention, target_attention)`` and, by name, options of their own."""
