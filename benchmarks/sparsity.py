"""Sparse entmax attention against dense Entmax and Softmax by length: ``python -m benchmarks.sparsity``.

Queries and keys are drawn with the structure that heads may have: of low rank, in clusters, or isotropic. Modes of
``Sparsefinder``: ``exact``, whose output is compared with Entmax, and ``gather`` by k-means of principal components,
whose recall is told. Times are medians of interleaved runs; ratios are to dense Entmax of the same run. With ``--device
cuda`` the kernels AdaSplash (of Entmax) and FlexAttention (of mode gather) are measured beside the torch operations;
one that cannot compute is left out with the reason.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from benchmarks.measure import Step, median_seconds, provenance
from benchmarks.reports import add_out, check_least, publish
from tabattn.attention import Entmax, Mechanism, Softmax, Sparsefinder
from tabattn.attention.sparsefinder import Mode
from tabattn.compare.clocks import peak_bytes

RANK, WIDTH = 4, 4
"""Rank of the keys of low rank, and principal components that are clustered."""


class Inputs(NamedTuple):
    """Queries, keys and values of one structure, ``(1, heads, length, head_dim)``."""

    q: Tensor
    k: Tensor
    v: Tensor


class Row(NamedTuple):
    """Measurements of one structure at one length; seconds and bytes by name of the mechanism."""

    structure: str
    length: int
    forward: dict[str, float]
    both: dict[str, float]
    peak: dict[str, int]
    scored: dict[str, float]
    recall: float
    error: float
    kernels: dict[str, str]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sparsity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--structures", nargs="+", default=list(STRUCTURES), choices=list(STRUCTURES), metavar="NAME")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=16)
    parser.add_argument("--clusters", type=int, default=32, help="clusters of mode gather")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each, of which the median counts")
    add_out(parser, "sparsity.md")
    options = parser.parse_args(argv)
    check_least(parser, options, heads=1, head_dim=1, clusters=1, repeats=1, lengths=16)
    return options


def low_rank(heads: int, length: int, width: int) -> Inputs:
    """Queries and keys near a subspace of four dimensions."""
    basis = torch.randn(heads, RANK, width)
    q, k = (torch.randn(heads, length, RANK) @ basis + 0.1 * torch.randn(heads, length, width) for _ in range(2))
    return Inputs(q[None], k[None], torch.randn(1, heads, length, width))


def clustered(heads: int, length: int, width: int) -> Inputs:
    """Queries and keys around 64 centres."""
    centres = 2 * torch.randn(heads, 64, width)
    q, k = (centres[:, torch.randint(64, (length,))] + 0.5 * torch.randn(heads, length, width) for _ in range(2))
    return Inputs(q[None], k[None], torch.randn(1, heads, length, width))


def isotropic(heads: int, length: int, width: int) -> Inputs:
    """Normal queries and keys, for which bounds are of no use."""
    return Inputs(*(torch.randn(1, heads, length, width) for _ in range(3)))


STRUCTURES: dict[str, Callable[[int, int, int], Inputs]] = {
    "low rank": low_rank,
    "clusters": clustered,
    "isotropic": isotropic,
}


class Tiles(Sparsefinder):
    """Mode gather by torch operations on any device."""

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
        return None


def grouped(inputs: Inputs, clusters: int, mode: Mode = "gather") -> Sparsefinder:
    """Sparsefinder on a graph by k-means of the keys' principal components; mode gather by torch operations."""
    _, heads, _, width = inputs.k.shape
    kind = Tiles if mode == "gather" else Sparsefinder
    made = kind(heads, width, mode=mode, grouping="kmeans", width=WIDTH, shared=True)
    keys = inputs.k[0].cpu().float()
    keys = keys - keys.mean(dim=1, keepdim=True)
    axes = torch.linalg.svd(keys, full_matrices=False).Vh[:, :WIDTH].mT
    assert made.projection is not None
    assert made.pattern is not None
    made.projection.load_state_dict({"q.w": axes, "q.b": torch.zeros(heads, 1, WIDTH)})
    points = torch.cat(made.projection(inputs.q.cpu().float(), inputs.k.cpu().float()), dim=2)[0]
    centres = [KMeans(clusters, n_init=1, random_state=0).fit(own.numpy()).cluster_centers_ for own in points]
    made.pattern.load_state_dict({"centroids": torch.from_numpy(np.stack(centres)).float()[:, None]})
    return made.to(inputs.k.device)


def kernels(inputs: Inputs, options: argparse.Namespace) -> dict[str, Mechanism]:
    """Mechanisms whose kernel is asked for by name."""
    flex = grouped(inputs, options.clusters, "flex")
    return {"AdaSplash": Entmax(options.heads, options.head_dim, kernel="adasplash"), "FlexAttention": flex}


def usable(
    mechanisms: dict[str, Mechanism], both: Callable[[Mechanism], Step]
) -> tuple[dict[str, Mechanism], dict[str, str]]:
    """Mechanisms that compute a step, and the reasons of the others."""
    found, reasons = {}, {}
    for name, mechanism in mechanisms.items():
        try:
            both(mechanism)()
        except Exception as ex:  # Whatever a compiler raises is told.
            reasons[name] = str(ex).partition("\n")[0] or type(ex).__name__
        else:
            found[name] = mechanism
    return found, reasons


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the measurements of each structure at each length."""
    for length in options.lengths:
        for name in options.structures:
            torch.manual_seed(0)
            drawn = STRUCTURES[name](options.heads, length, options.head_dim)
            inputs = Inputs(*(part.to(options.device, getattr(torch, options.dtype)) for part in drawn))
            yield measured(name, inputs, options)
            sys.stderr.write(f"{name} at {length} done\n")


def measured(structure: str, inputs: Inputs, options: argparse.Namespace) -> Row:
    """Time, memory, keys scored, recall and error of the mechanisms."""
    size = (options.heads, options.head_dim)
    mechanisms: dict[str, Mechanism] = {
        "Softmax": Softmax(*size),
        "Entmax": Entmax(*size, kernel="torch"),
        "exact": Sparsefinder(*size),
    }
    mechanisms["gather"] = grouped(inputs, options.clusters)
    given = [part.requires_grad_() for part in inputs]

    def forward(mechanism: Mechanism) -> Callable[[], Tensor]:
        return lambda: mechanism(*given)

    def both(mechanism: Mechanism) -> Callable[[], object]:
        return lambda: torch.autograd.grad(mechanism(*given).sum(), given)

    device = torch.device(options.device)
    fused, reasons = usable(kernels(inputs, options), both) if device.type == "cuda" else ({}, {})
    mechanisms |= fused
    steps = [{name: make(each) for name, each in mechanisms.items()} for make in (forward, both)]
    times = [median_seconds(each, options.repeats, device) for each in steps]
    peak = {name: peak_bytes(step, device) for name, step in steps[1].items()}
    with torch.no_grad():
        error = float((mechanisms["exact"](*inputs) - mechanisms["Entmax"](*inputs)).abs().max())
        scored = {name: share(mechanisms[name], inputs) for name in ("exact", "gather")}
        found = recall(mechanisms["gather"], mechanisms["Entmax"], inputs)
        told = {name: f"error {difference(each, mechanisms, name, inputs):.0e}" for name, each in fused.items()}
    return Row(structure, inputs.k.shape[2], times[0], times[1], peak, scored, found, error, told | reasons)


def difference(fused: Mechanism, mechanisms: dict[str, Mechanism], name: str, inputs: Inputs) -> float:
    """Largest difference of a kernel's output from that of the same function by torch operations."""
    plain = mechanisms["Entmax" if name == "AdaSplash" else "gather"]
    return float((fused(*inputs).float() - plain(*inputs).float()).abs().max())


def share(mechanism: Mechanism, inputs: Inputs) -> float:
    """Share of the pairs of query and key that are scored."""
    assert isinstance(mechanism, Sparsefinder)
    keys = inputs.k.shape[2]
    tiles = [tile for head in mechanism.tiles(inputs.q.detach().float(), inputs.k.detach().float()) for tile in head]
    scored = sum(len(tile.rows) * (keys if tile.keys is None else len(tile.keys)) for tile in tiles)
    return scored / inputs.q.shape[:3].numel() / keys


def recall(mechanism: Mechanism, dense: Mechanism, inputs: Inputs, rows: int = 256) -> float:
    """Share of the pairs of positive weight, of some queries, that are predicted."""
    assert isinstance(mechanism, Sparsefinder)
    q, k = inputs.q[:, :, :rows].detach().float(), inputs.k.detach().float()
    gold = dense.weights(q, k) > 0
    return float((mechanism.graph(q, k) & gold).sum() / gold.sum())


def report(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """Report as Markdown."""
    head = ["Keys", "Structure", "Softmax", "Entmax", "exact, forward", "exact, both", "scored", "error"]
    head += ["gather, forward", "gather, both", "scored", "recall"]
    lines = [f"| {' | '.join(head)} |", f"| ---: | --- |{' ---: |' * (len(head) - 2)}"]
    for row in rows:
        entmax, both = row.forward["Entmax"], row.both["Entmax"]
        cells = [f"{row.length}", row.structure, f"{row.both['Softmax'] * 1e3:.0f} ms"]
        cells.append(f"{both / row.both['Softmax']:.2f} x")
        cells += [f"{entmax / row.forward['exact']:.2f}", f"{both / row.both['exact']:.2f}"]
        cells += [f"{row.scored['exact']:.1%}", f"{row.error:.0e}"]
        cells += [f"{entmax / row.forward['gather']:.2f}", f"{both / row.both['gather']:.2f}"]
        cells += [f"{row.scored['gather']:.1%}", f"{row.recall:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    text = f"""# Sparse entmax attention: speed against dense Entmax

Written by `python -m benchmarks.sparsity` on {provenance(torch.device(options.device))}.

Batch 1, {options.heads} heads of {options.head_dim}, {options.dtype}, medians of {options.repeats} interleaved runs.
*Softmax*: forward and backward; *Entmax*: the same, as a ratio to Softmax. *exact* and *gather*: how many times as fast
as dense Entmax, forward alone and forward and backward; the share of pairs of query and key that is scored; the largest
difference of exact's output from Entmax's; the share of positive weights that gather's graph holds.

{chr(10).join(lines)}

Peak memory of forward and backward, as a ratio to Entmax (median of all rows): """
    peaks = {
        name: statistics.median(row.peak[name] / row.peak["Entmax"] for row in rows) for name in ("exact", "gather")
    }
    text += ", ".join(f"{name} {ratio:.2f}" for name, ratio in peaks.items()) + ".\n"
    return text + (kernel_table(rows) if options.device == "cuda" else "")


def kernel_table(rows: Sequence[Row]) -> str:
    """Kernels of a GPU beside dense Entmax by torch operations."""
    lines = ["", "## Kernels", ""]
    lines += [
        "How many times as fast as Entmax by torch operations; peak memory as a ratio to it; the largest difference"
    ]
    lines += ["from the same function by torch operations, or why it was not measured.", ""]
    lines += [
        "| Keys | Structure | Kernel | forward | both | memory | |",
        "| ---: | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        for name, told in row.kernels.items():
            cells = [str(row.length), row.structure, name]
            if name in row.both:
                cells += [f"{each['Entmax'] / each[name]:.2f}" for each in (row.forward, row.both)]
                cells.append(f"{row.peak[name] / row.peak['Entmax']:.2f}")
            else:
                cells += ["", "", ""]
            lines.append(f"| {' | '.join([*cells, told])} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write the report after each row, and print it."""
    options = arguments(argv)
    rows: list[Row] = []
    for row in measure(options):
        rows.append(row)
        publish(report(rows, options), options.out)
    sys.stdout.write(report(rows, options))


if __name__ == "__main__":
    main()
