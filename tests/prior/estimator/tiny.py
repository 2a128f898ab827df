"""Small networks none of whose weights is zero, as those of a new network are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tabattn.attention import Mechanism
from tabattn.prior.network import PriorNetwork

MakeTable = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]
"""Makes cells and labels, given ``rows``, ``features`` and ``classes``."""

SIZES: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 12, "layers": 2, "classes": 4, "thinking_rows": 2}
LEGACY: dict[str, Any] = {"profile": "legacy", "thinking_rows": None}
"""Changes that make the network the original one."""


def tiny_network(**changes: Any) -> PriorNetwork:
    """A network of random weights, the same for the same arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PriorNetwork(**(SIZES | changes))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def row_mechanism(network: PriorNetwork) -> Mechanism:
    """The mechanism between the context rows in the first layer."""
    block: Any = network.blocks[0]
    found: Mechanism = block.rows.attention.mechanism
    return found
