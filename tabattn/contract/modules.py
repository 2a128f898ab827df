"""Conversion of torch modules to graphs of neurons and back, without loss."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tabattn.contract.activations import ACTIVATIONS, CODES, MODULES, Sine
from tabattn.contract.dag_net import DAGNet
from tabattn.contract.graphs import BIASED, OUTPUT, WEIGHTED, NeuronDAG

KINDS: dict[type, str] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.Softplus: "softplus",
    Sine: "sine",
}
"""Names of activation modules."""
OPTIONS: dict[type, dict[str, object]] = {
    nn.GELU: {"approximate": "none"},
    nn.LeakyReLU: {"negative_slope": 0.01},
    nn.ELU: {"alpha": 1.0},
    nn.Softplus: {"beta": 1.0, "threshold": 20.0},
}
"""Options that an activation must have, as a graph holds none."""
SILENT = (nn.Identity, nn.Dropout, nn.AlphaDropout)
"""Modules that do nothing in evaluation."""


class UnsupportedModule(ValueError):
    """Module that a graph of neurons cannot hold.

    Args:
        name: Its path in the module, empty for the module itself.
        module: The module.
        why: What cannot be held.
    """

    def __init__(self, name: str, module: nn.Module, why: str = "") -> None:
        self.name, self.module, self.why = name, module, why
        where = f" {name!r}" if name else ""
        kinds = (nn.Linear, nn.Sequential, nn.Dropout, nn.Identity, DAGNet, *KINDS)
        kind = type(module)
        # Another class of the same name, such as that of a quantized layer.
        namesake = kind not in kinds and kind.__name__ in {known.__name__ for known in kinds}
        called = f"{kind.__module__}.{kind.__name__}" if namesake else kind.__name__
        known = "Linear, Sequential, Dropout, Identity, DAGNet and " + ", ".join(known.__name__ for known in KINDS)
        super().__init__(f"module{where} is a {called}{why and f' {why}'}; a network may have {known}")


def from_module(module: nn.Module, inputs: int | None = None) -> NeuronDAG:
    """Convert a module to a graph of neurons, in evaluation: dropout is left out.

    Args:
        module: ``nn.Linear``, activations, and ``nn.Sequential`` of them; or a ``DAGNet``.
        inputs: Number of inputs, for a module without a linear layer.

    Raises:
        UnsupportedModule: A part is none of these.
        ValueError: Widths of layers do not fit, or numbers are not in single precision.
    """
    if isinstance(module, DAGNet):
        return module.graph()
    parts = list(_parts(module, ""))
    width = next((part.in_features for _, part in parts if isinstance(part, nn.Linear)), inputs)
    if width is None or width < 1:
        raise ValueError(f"inputs must be at least 1 for a module without a linear layer, got {inputs}")
    builder = _Builder(width)
    for name, part in parts:
        if isinstance(part, nn.Linear):
            builder.linear(name, part)
        else:
            builder.activation(CODES[KINDS[type(part)]])
    return builder.graph()


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers and activations with their paths, in order."""
    if getattr(module, "_forward_hooks", None) or getattr(module, "_forward_pre_hooks", None):
        raise UnsupportedModule(name, module, "with hooks, which may change what it computes (remove them)")
    if type(module) is nn.Sequential:
        for key, part in module.named_children():
            yield from _parts(part, f"{name}.{key}" if name else key)
    elif type(module) is nn.Linear or type(module) in KINDS:
        for option, value in OPTIONS.get(type(module), {}).items():
            if getattr(module, option) != value:
                raise UnsupportedModule(name, module, f"with {option}={getattr(module, option)}, not {value}")
        yield name, module
    elif not isinstance(module, SILENT):
        raise UnsupportedModule(name, module)


class _Builder:
    """Graph of layers that follow one another."""

    def __init__(self, inputs: int) -> None:
        self.types, self.flags = [np.zeros(inputs, np.uint8)], [np.zeros(inputs, np.uint8)]
        self.biases = [np.zeros(inputs, np.float32)]
        self.degrees, self.sources = [np.zeros(inputs, np.int64)], [np.zeros(0, np.int64)]
        self.weights = [np.zeros(0, np.float32)]
        self.begin, self.plain = 0, False

    def _add(self, code: int, flags: int, bias: NDArray[np.float32], sources: NDArray[np.int64]) -> None:
        """Add a level whose vertices have the rows of ``sources`` as parents."""
        width, degree = sources.shape
        self.begin += len(self.types[-1])
        self.types.append(np.full(width, code, np.uint8))
        self.flags.append(np.full(width, flags, np.uint8))
        self.biases.append(bias)
        self.degrees.append(np.full(width, degree, np.int64))
        self.sources.append(sources.ravel())

    def linear(self, name: str, layer: nn.Linear) -> None:
        """Add a linear layer."""
        width = len(self.types[-1])
        if layer.in_features != width:
            raise ValueError(f"linear layer {name!r} has {layer.in_features} inputs, but {width} come before it")
        if layer.out_features < 1:
            raise ValueError(f"linear layer{_called(name)} must have at least 1 output, got {layer.out_features}")
        weight = _single(name, layer.weight)
        bias = np.zeros(len(weight), np.float32) if layer.bias is None else _single(name, layer.bias)
        flags = WEIGHTED if layer.bias is None else WEIGHTED | BIASED
        self._add(0, flags, bias, np.tile(self.begin + np.arange(width), (len(weight), 1)))
        self.weights.append(weight.ravel())
        self.plain = True

    def activation(self, code: int) -> None:
        """Give the linear layer before it an activation, or add a level of its own."""
        if self.plain:
            self.types[-1] = np.full_like(self.types[-1], code)
        else:
            width = len(self.types[-1])
            self._add(code, 0, np.zeros(width, np.float32), self.begin + np.arange(width)[:, None])
            self.weights.append(np.ones(width, np.float32))
        self.plain = False

    def graph(self) -> NeuronDAG:
        """The graph, whose outputs are the last level."""
        self.flags[-1] = self.flags[-1] | np.uint8(OUTPUT)
        levels = np.repeat(np.arange(len(self.types)), [len(each) for each in self.types])
        if levels[-1] > np.iinfo(np.uint8).max:
            raise ValueError(f"a network may have {np.iinfo(np.uint8).max} levels behind its inputs, got {levels[-1]}")
        return NeuronDAG(
            np.concatenate(self.types),
            levels.astype(np.uint8),
            np.concatenate(self.flags),
            np.concatenate(self.biases),
            np.concatenate([[0], np.cumsum(np.concatenate(self.degrees))]),
            np.concatenate(self.sources),
            np.concatenate(self.weights),
        )


def _single(name: str, values: Tensor) -> NDArray[np.float32]:
    if values.dtype != torch.float32:
        raise ValueError(
            f"layer{_called(name)} has numbers of type {values.dtype}: a graph holds single precision (.float())"
        )
    if values.is_meta or values.layout != torch.strided:
        raise ValueError(
            f"layer{_called(name)} has numbers that are not there, or not all: a graph holds dense tensors"
        )
    return values.detach().cpu().numpy().copy()


def _called(name: str) -> str:
    return f" {name!r}" if name else ""


def to_module(dag: NeuronDAG) -> nn.Module:
    """Convert a graph to a module: ``nn.Sequential`` if its levels are dense layers, else a ``DAGNet``.

    The weights are those of the graph bit for bit, and ``from_module`` makes the same graph of the module: one that it
    has made of a sequence with a linear layer becomes that sequence, without its dropout.
    """
    layers = _layers(dag)
    return DAGNet(dag) if layers is None else nn.Sequential(*layers)


def _layers(dag: NeuronDAG) -> list[nn.Module] | None:
    """Layers that follow one another and that are read as this graph, or None if it is no such sequence."""
    starts = np.searchsorted(dag.level, np.arange(int(dag.level[-1]) + 2))
    if not np.array_equal((dag.flags & OUTPUT) > 0, np.arange(len(dag)) >= starts[-2]):
        return None
    layers: list[nn.Module] = []
    for before, start, end in zip(starts[:-2], starts[1:-1], starts[2:], strict=True):
        made = _level(dag, before, start, end)
        # An activation right behind a linear layer would be read as that of its level.
        if made is None or (layers and isinstance(layers[-1], nn.Linear) and not isinstance(made[0], nn.Linear)):
            return None
        layers += made
    # Activations alone do not say how many inputs there are.
    return layers if any(isinstance(each, nn.Linear) for each in layers) else None


def _level(dag: NeuronDAG, before: int, start: int, end: int) -> list[nn.Module] | None:
    """Modules of one level, or None if it is no dense layer on the level before it."""
    flags, types = np.unique(dag.flags[start:end] & ~np.uint8(OUTPUT)), np.unique(dag.type[start:end])
    if len(flags) != 1 or len(types) != 1:
        return None
    name = list(ACTIVATIONS)[types[0]]
    activation = [MODULES[name]()] if name in MODULES else []
    width, parents = end - start, start - before
    edges = slice(dag.pointer[start], dag.pointer[end])
    if not flags[0] & WEIGHTED:
        single = width == parents and np.array_equal(dag.source[edges], before + np.arange(width))
        alone = single and (np.diff(dag.pointer[start : end + 1]) == 1).all()
        return activation if alone and activation and not flags[0] & BIASED else None
    dense = np.tile(before + np.arange(parents), width)
    if not np.array_equal(dag.source[edges], dense) or (np.diff(dag.pointer[start : end + 1]) != parents).any():
        return None
    layer = nn.Linear(parents, width, bias=bool(flags[0] & BIASED))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(dag.weight[edges].reshape(width, parents)))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(dag.bias[start:end]))
    return [layer, *activation]
