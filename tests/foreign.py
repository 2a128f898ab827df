"""Random weights in the formats of nanoTabPFN and its relatives, and an independent forward pass over them."""

import torch
import torch.nn.functional as F
from torch import Tensor

DIM, HIDDEN, CLASSES, HEADS, POINTS = 8, 6, 3, 2, 3
KINDS = ("Original", "Scratch", "Sparse", "Local", "Optimized Local", "Einstein", "Pooling", "Shared")
WINDOW = {"Sparse": 5, "Local": 3, "Optimized Local": 2, "Einstein": 4}
REACH = {"Sparse": 2, "Optimized Local": 2, "Einstein": 2}
"""How far a row sees on either side with these windows."""

ROWS = "self_attention_between_datapoints"

Weights = dict[str, Tensor]


def make(kind: str, layers: int, classes: int = CLASSES) -> Weights:
    """Random weights of a network of one attention type; ``Shared``: one module for context and target rows."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    def packed(name: str) -> None:
        shapes[f"{name}.in_proj_weight"], shapes[f"{name}.in_proj_bias"] = (3 * DIM, DIM), (3 * DIM,)
        linear(f"{name}.out_proj", DIM, DIM)

    def four(name: str, letters: tuple[str, ...] = ("Wq", "Wk", "Wv"), out: str = "Wo", bias: bool = True) -> None:
        for letter in letters:
            linear(f"{name}.{letter}", DIM, DIM, bias)
        linear(f"{name}.{out}", DIM, DIM)

    linear("feature_encoder.linear_layer", DIM, 1)
    linear("target_encoder.linear_layer", DIM, 1)
    for layer in range(layers):
        block = f"transformer_blocks.{layer}."
        packed(f"{block}self_attention_between_features")
        if kind == "Shared":
            packed(f"{block}{ROWS}")
        elif kind == "Sparse":
            four(f"{block}{ROWS}_train", ("w_q", "w_k", "w_v"), "w_o", bias=False)
        elif kind == "Original":
            packed(f"{block}{ROWS}_train")
        else:
            four(f"{block}{ROWS}_train")
        if kind == "Pooling":
            shapes[f"{block}{ROWS}_train.pool_tokens"] = (POINTS, DIM)
        if kind in ("Original", "Pooling"):
            packed(f"{block}{ROWS}_test")
        elif kind != "Shared":
            four(f"{block}{ROWS}_test")
        linear(f"{block}linear1", HIDDEN, DIM)
        linear(f"{block}linear2", DIM, HIDDEN)
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= {f"{block}{norm}.weight": (DIM,), f"{block}{norm}.bias": (DIM,)}
    linear("decoder.linear1", HIDDEN, DIM)
    linear("decoder.linear2", classes, HIDDEN)
    return {name: 0.7 * torch.randn(shape) for name, shape in shapes.items()}


def reference(w: Weights, kind: str, layers: int, x: Tensor, y: Tensor, context: int) -> Tensor:
    """Logits of target rows, ``(batch, target rows, classes)``, in double precision and then rounded."""
    w = {name: weight.double() for name, weight in w.items()}

    def linear(name: str, h: Tensor) -> Tensor:
        return F.linear(h, w[f"{name}.weight"], w[f"{name}.bias"])

    x, known = x.double(), y[:, :context].double()
    mean, std = x[:, :context].mean(1, keepdim=True), x[:, :context].std(1, keepdim=True)
    cells = linear("feature_encoder.linear_layer", ((x - mean) / std).clamp(-100, 100)[..., None])
    filled = torch.cat([known, known.mean(1, keepdim=True).expand(-1, x.shape[1] - context)], dim=1)
    h = torch.cat([cells, linear("target_encoder.linear_layer", filled[:, :, None, None])], dim=2)
    for layer in range(layers):
        block = f"transformer_blocks.{layer}."

        def norm(name: str, h: Tensor, block: str = block) -> Tensor:
            return F.layer_norm(h, (DIM,), w[f"{block}{name}.weight"], w[f"{block}{name}.bias"])

        flat = h.flatten(0, 1)
        h = norm("norm1", (flat + _torch(w, f"{block}self_attention_between_features", flat, flat)).view(h.shape))
        by_column = h.transpose(1, 2).flatten(0, 1)
        mixed = _rows(w, f"{block}{ROWS}", kind, by_column[:, :context], by_column[:, context:])
        h = norm("norm2", (by_column + mixed).unflatten(0, (len(h), -1)).transpose(1, 2))
        h = norm("norm3", h + linear(f"{block}linear2", F.gelu(linear(f"{block}linear1", h))))
    return linear("decoder.linear2", F.gelu(linear("decoder.linear1", h[:, context:, -1]))).float()


def _rows(w: Weights, site: str, kind: str, train: Tensor, test: Tensor) -> Tensor:
    """Context rows read one another in some way, target rows read all context rows."""
    if kind == "Shared":
        return torch.cat([_torch(w, site, train, train), _torch(w, site, test, train)], dim=1)
    if kind == "Original":
        inside = _torch(w, f"{site}_train", train, train)
    else:
        inside = _plain(w, f"{site}_train", kind, train, train)
    outside = _torch if kind in ("Original", "Pooling") else _full
    return torch.cat([inside, outside(w, f"{site}_test", test, train)], dim=1)


def _torch(w: Weights, site: str, asking: Tensor, read: Tensor) -> Tensor:
    q, kv = asking.transpose(0, 1), read.transpose(0, 1)
    packed = w[f"{site}.in_proj_weight"], w[f"{site}.in_proj_bias"]
    out = w[f"{site}.out_proj.weight"], w[f"{site}.out_proj.bias"]
    mixed, _ = F.multi_head_attention_forward(q, kv, kv, DIM, HEADS, *packed, None, None, False, 0.0, *out)
    return mixed.transpose(0, 1)


def _full(w: Weights, site: str, asking: Tensor, read: Tensor) -> Tensor:
    return _plain(w, site, "Scratch", asking, read)


def _plain(w: Weights, site: str, kind: str, asking: Tensor, read: Tensor) -> Tensor:
    """One head and one query at a time, over the keys it may see."""
    names = ("w_q", "w_k", "w_v", "w_o") if kind == "Sparse" else ("Wq", "Wk", "Wv", "Wo")
    if kind == "Pooling":
        read = w[f"{site}.pool_tokens"].expand(len(asking), -1, -1)
    inputs = zip(names, (asking, read, read), strict=False)
    q, k, v = (F.linear(x, w[f"{site}.{name}.weight"], w.get(f"{site}.{name}.bias")) for name, x in inputs)
    edge = WINDOW["Local"] if kind == "Local" else 0
    reach = edge or REACH.get(kind, k.shape[1] + q.shape[1])
    k, v = F.pad(k, (0, 0, edge, edge)), F.pad(v, (0, 0, edge, edge))
    mixed = torch.zeros_like(q)
    size = DIM // HEADS
    for part in (slice(start, start + size) for start in range(0, DIM, size)):
        for i in range(q.shape[1]):
            near = slice(max(0, i + edge - reach), i + edge + reach + 1)
            scores = (k[:, near, part] * q[:, i : i + 1, part]).sum(-1, keepdim=True) / size**0.5
            mixed[:, i, part] = (scores.softmax(1) * v[:, near, part]).sum(1)
    return F.linear(mixed, w[f"{site}.{names[3]}.weight"], w[f"{site}.{names[3]}.bias"])
