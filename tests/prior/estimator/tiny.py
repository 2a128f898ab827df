"""Small networks without zero weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tabattn.attention import Mechanism
from tabattn.prior import NETWORKS
from tabattn.prior.classifier_network import ContextClassifier

MakeTable = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]
"""Makes cells and labels, given ``rows``, ``features`` and ``classes``."""

SIZES: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 12, "layers": 2, "classes": 4, "thinking_rows": 2}
LEGACY: dict[str, Any] = {"name": "NanoTabPFN"}
"""Changes that make the network the original one."""


def tiny_network(name: str = "PriorNetwork", **changes: Any) -> ContextClassifier:
    """A network of random weights, the same for the same arguments."""
    sizes = {size: value for size, value in SIZES.items() if name == "PriorNetwork" or size != "thinking_rows"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NETWORKS[name](**(sizes | changes))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def row_mechanism(network: ContextClassifier) -> Mechanism:
    """The mechanism between the context rows in the first layer."""
    block: Any = network.blocks[0]
    found: Mechanism = block.rows.attention.mechanism
    return found
