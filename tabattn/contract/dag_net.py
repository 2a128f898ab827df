"""DAGNet: module that computes a graph of neurons, level by level."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.graphs import BIASED, OUTPUT, WEIGHTED, Bytes, NeuronDAG


class DAGNet(nn.Module):
    """Feedforward network of any graph of neurons: skip connections, missing weights, mixed activations.

    Args:
        dag: The graph. Its weights and biases are the parameters.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    weighted: Tensor
    biased: Tensor
    child: Tensor
    source: Tensor
    outputs: Tensor

    def __init__(self, dag: NeuronDAG) -> None:
        super().__init__()
        self._dag = dag
        child = dag.child
        weighted, biased = (dag.flags[child] & WEIGHTED) > 0, (dag.flags & BIASED) > 0
        self.weight = nn.Parameter(torch.from_numpy(dag.weight[weighted].copy()))
        self.bias = nn.Parameter(torch.from_numpy(dag.bias[biased].copy()))
        places = {
            "weighted": np.flatnonzero(weighted),
            "biased": np.flatnonzero(biased),
            "child": child,
            "source": dag.source,
            "outputs": np.flatnonzero(dag.flags & OUTPUT),
        }
        for name, place in places.items():
            self.register_buffer(name, torch.from_numpy(place.astype(np.int64)), persistent=False)
        self.starts = np.searchsorted(dag.level, np.arange(int(dag.level[-1]) + 2)).tolist()
        self.kinds = [
            _places(dag.type[start:end]) for start, end in zip(self.starts[1:-1], self.starts[2:], strict=True)
        ]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new weights and biases, uniform within ``1 / sqrt(parents)`` of their vertex, as ``nn.Linear`` does."""
        count = torch.bincount(self.child, minlength=len(self._dag)).clamp(min=1)
        bound = count.to(self.weight).rsqrt()
        self.weight.uniform_(-1, 1).mul_(bound[self.child[self.weighted]])
        self.bias.uniform_(-1, 1).mul_(bound[self.biased])

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs ``(..., outputs)`` of inputs ``(..., inputs)``.

        Raises:
            ValueError: The inputs have another width.
        """
        if x.shape[-1] != self.starts[1]:
            raise ValueError(f"x must have {self.starts[1]} columns, got {x.shape[-1]}")
        size = len(self._dag)
        values = self.weight.new_ones(len(self.source)).index_copy(0, self.weighted, self.weight)
        dense = values.new_zeros(size, size).index_put((self.child, self.source), values)
        bias = values.new_zeros(size).index_copy(0, self.biased, self.bias)
        found = x
        for start, end, kinds in zip(self.starts[1:-1], self.starts[2:], self.kinds, strict=True):
            level = found @ dense[start:end, :start].T + bias[start:end]
            found = torch.cat([found, _activated(level, kinds)], dim=-1)
        return found[..., self.outputs]

    def extra_repr(self) -> str:
        """Layers and number of weights, such as ``10-8relu-1, weights=88``."""
        words = [str(self.starts[1])]
        for start, end, kinds in zip(self.starts[1:-1], self.starts[2:], self.kinds, strict=True):
            words.append(f"{end - start}{'+'.join(name for name, _ in kinds if name != 'identity')}")
        return f"{'-'.join(words)}, weights={len(self.weight)}"

    def graph(self) -> NeuronDAG:
        """The graph with the present parameters."""
        weight, bias = self._dag.weight.copy(), self._dag.bias.copy()
        weight[self.weighted.cpu().numpy()] = self.weight.detach().cpu().numpy()
        bias[self.biased.cpu().numpy()] = self.bias.detach().cpu().numpy()
        return replace(self._dag, weight=weight, bias=bias)


def _places(types: Bytes) -> list[tuple[str, list[int]]]:
    """Activation functions of a level, and the vertices that have each."""
    names = list(ACTIVATIONS)
    return [(names[code], np.flatnonzero(types == code).tolist()) for code in np.unique(types)]


def _activated(level: Tensor, kinds: list[tuple[str, list[int]]]) -> Tensor:
    if len(kinds) == 1:
        return ACTIVATIONS[kinds[0][0]](level)
    found = level.clone()
    for name, places in kinds:
        found[..., places] = ACTIVATIONS[name](level[..., places])
    return found
