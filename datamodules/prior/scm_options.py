"""Options of the structural-causal-model prior."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from tabattn.contract.checks import check_least, check_range
from tabattn.storage.earlier import Movable

KINDS = ("trees", "interactions", "rules", "forests", "lookups", "fourier")
"""Probabilities of the kinds of layers; the others are dense."""


def _check_probabilities(options: Any, group: str, names: Iterable[str]) -> None:
    """Raise ValueError for an option that is no probability."""
    for name in names:
        if not 0 <= (value := getattr(options, name)) <= 1:
            raise ValueError(f"{group}.{name} must be in [0, 1], got {value}")


@dataclass(frozen=True)
class NetworkOptions:
    """Options of the random network behind a table; each range is sampled for each table.

    Args:
        layers: Fewest and most hidden layers (few likelier).
        width: Narrowest and widest layer (narrow likelier).
        noise: Smallest and largest noise of a node (small likelier).
        causal: Probability that features are nodes of the network rather than its causes.
        discrete: Probability that some or all causes are categories, whose classes follow from them without loss.
        trees: Probability that a layer is made of random trees rather than a dense map.
        depth: Shallowest and deepest tree.
        interactions: Probability that a layer combines pairs of nodes: products, gates, comparisons, extremes.
        rules: Probability that a layer is made of random rules: ORs of ANDs of comparisons, as in games and grades.
        forests: Probability that a layer is made of random decision trees whose nodes each have a split of their own:
            rougher than ``trees``, whose nodes share one split per level.
        lookups: Probability that a layer looks up a random value for each combination of categories of its inputs.
        fourier: Probability that a layer is made of random waves: smooth or rough Gaussian processes over few inputs.
    """

    layers: tuple[int, int] = (1, 5)
    width: tuple[int, int] = (6, 48)
    noise: tuple[float, float] = (1e-3, 0.3)
    causal: float = 0.5
    discrete: float = 0.2
    trees: float = 0.35
    depth: tuple[int, int] = (1, 6)
    interactions: float = 0.0
    rules: float = 0.0
    forests: float = 0.0
    lookups: float = 0.0
    fourier: float = 0.0

    def __post_init__(self) -> None:
        for name in ("layers", "width", "depth"):
            check_range(f"scm.network.{name}", getattr(self, name), 1)
        if not 0 < self.noise[0] <= self.noise[1]:
            raise ValueError(f"scm.network.noise must be two numbers, 0 < smallest <= largest, got {list(self.noise)}")
        _check_probabilities(self, "scm.network", ("causal", "discrete", *KINDS))
        if (total := sum(getattr(self, kind) for kind in KINDS)) > 1 + 1e-9:
            named = f"{', '.join(KINDS[:-1])} and {KINDS[-1]}"
            raise ValueError(f"scm.network.{named} must add up to at most 1, got {total:g}")


@dataclass(frozen=True)
class ColumnOptions:
    """Options of the columns of a table.

    Args:
        categorical: Probability that a column is cut into categories.
        levels: Most categories of a column.
        narrow: Probability that the number of features is uniform in its logarithm (few likelier) rather than uniform.
        tails: Probability that a column is skewed or has heavy tails.
        outliers: Probability that a table has cells far outside their column.
        rounding: Probability that a column is rounded to a coarse grid.
        missing: Probability that a table has missing cells.
        blocks: Probability that missing cells come in blocks, or where another column is large, rather than at random.
        irrelevant: Probability that a table has columns that have nothing to do with anything.
        duplicates: Probability that a table has columns that nearly repeat others.
    """

    categorical: float = 0.2
    levels: int = 10
    narrow: float = 0.0
    tails: float = 0.0
    outliers: float = 0.0
    rounding: float = 0.0
    missing: float = 0.1
    blocks: float = 0.0
    irrelevant: float = 0.0
    duplicates: float = 0.0

    def __post_init__(self) -> None:
        check_least(**{"scm.columns.levels": (self.levels, 2)})
        _check_probabilities(self, "scm.columns", [field.name for field in fields(self) if field.name != "levels"])


@dataclass(frozen=True)
class ClassOptions:
    """Options of the classes of a table.

    Args:
        unrelated: Probability that a table's classes have nothing to do with its cells.
        imbalance: Largest spread of class sizes: standard deviation of their logarithms; 0 = equal classes.
        regions: Probability that the class is the nearest of several prototypes, or the largest of several scores,
            rather than a piece of one score: classes that have no order.
        many: Probability that the number of classes is uniform in its range rather than small ones likelier.
    """

    unrelated: float = 0.05
    imbalance: float = 1.0
    regions: float = 0.0
    many: float = 0.0

    def __post_init__(self) -> None:
        if self.imbalance < 0:
            raise ValueError(f"scm.classes.imbalance must be at least 0, got {self.imbalance}")
        _check_probabilities(self, "scm.classes", ("unrelated", "regions", "many"))


DEFAULT_NETWORK = NetworkOptions()
DEFAULT_COLUMNS = ColumnOptions()
DEFAULT_CLASSES = ClassOptions()

GROUPS: dict[str, Any] = {"network": NetworkOptions, "columns": ColumnOptions, "classes": ClassOptions}


@dataclass(frozen=True)
class ScmOptions(Movable):
    """Options of the structural-causal-model prior.

    Args:
        network: Options of the random network behind a table.
        columns: Options of the columns.
        classes: Options of the classes.
        linear: Probability that a table's whole network is linear, apart from its noise.
    """

    moved: ClassVar[Mapping[str, str]] = {
        field.name: f"{group}.{field.name}" for group, options in GROUPS.items() for field in fields(options)
    }

    network: NetworkOptions = DEFAULT_NETWORK
    columns: ColumnOptions = DEFAULT_COLUMNS
    classes: ClassOptions = DEFAULT_CLASSES
    linear: float = 0.0

    def __post_init__(self) -> None:
        _check_probabilities(self, "scm", ("linear",))


DEFAULT_OPTIONS = ScmOptions()
