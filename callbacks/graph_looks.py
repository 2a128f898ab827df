"""Looks of predicted attention graphs in pictures: colour and marker of each pattern, and the axis of sparsity."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tabattn.attention.graphs import PATTERNS, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "groups": "#c1121f",
    "distances": "#f08c00",
    "positional": "#1c7ed6",
    "hashing": "#2b8a3e",
    "bounds": "#7b2cbf",
    "gate": "#868e96",
}
"""Colour of each family of patterns, which is the module that they are defined in."""
ORACLE, DENSE = "#000000", "#343a40"
"""Colours of the oracle, which reads the scores that it is to predict, and of the attention itself."""
MARKERS = "osD^vPX*"
"""Markers of the patterns of a family, in their order."""
SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
"""Ticks of the axis."""
LEAST = 1e-4
"""Smallest share of pairs that the axis tells from none."""


def look(pattern: str) -> dict[str, Any]:
    """Colour, marker, line and order of a pattern: a colour for each family, a marker within it.

    Sparsefinder's own have solid lines and filled markers; baselines have dashed lines and open markers; the oracle is
    black. Of blocks, lines are dotted, and markers larger the larger a block is.
    """
    family, (name, block) = _family(pattern), named(pattern)
    kin = [each for each in PATTERNS if _family(each) == family]
    ours = own(pattern)
    colour = ORACLE if name == "topk" else COLOURS[family]
    of_block = {} if block is None else {"linestyle": ":", "markersize": 6 + block.bit_length()}
    return {
        "color": colour,
        "marker": MARKERS[kin.index(name) % len(MARKERS)],
        "markerfacecolor": colour if ours else "white",
        "linestyle": "-" if ours else "--",
        "linewidth": 1.8 if ours else 1.0,
        "zorder": 4 if ours else 3,
        **of_block,
    }


def own(pattern: str) -> bool:
    """Whether a pattern is of Sparsefinder: buckets, clusters or distances of learned projections."""
    return _family(pattern) in ("groups", "distances")


def _family(pattern: str) -> str:
    return named(pattern).kind.__module__.rpartition(".")[2]


def called(pattern: str) -> str:
    """Name of a pattern in a legend, which tells Sparsefinder from baselines."""
    if named(pattern).name == "topk":
        return f"oracle: {pattern}"
    return f"{'Sparsefinder' if own(pattern) else 'baseline'}: {pattern}"


def kept(sparsity: float) -> float:
    """Place on the axis of sparsity: the share of pairs that have an edge, at least 0.0001."""
    return max(1.0 - sparsity, LEAST)


def sparsity_axis(axes: "Axes", sparsities: Sequence[float]) -> None:
    """Make the horizontal axis that of sparsity, logarithmic in the share of pairs that have an edge.

    Args:
        axes: Axes, whose points are at ``kept(sparsity)``.
        sparsities: Sparsities of the points.
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    places = [kept(each) for each in sparsities] or [1.0]
    left, right = min(1.0, max(places) * 1.25), min(places) / 1.25
    axes.set_xscale("log")
    axes.set_xlim(left * 1.1, right)
    ticks = [each for each in SPARSITIES if right <= kept(each) <= left * 1.1]
    axes.xaxis.set_major_locator(FixedLocator([kept(each) for each in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{each:g}" for each in ticks])
    axes.set_xlabel("sparsity of the graph (sparser to the right)")
    axes.grid(alpha=0.3)
