"""Options of the structural-causal-model prior."""

from dataclasses import dataclass

from tabattn.contract.checks import check_range

PROBABILITIES = (
    *("causal", "discrete", "trees", "categorical", "missing", "unrelated", "interactions", "rules", "regions", "many"),
    *("narrow", "tails", "outliers", "rounding", "blocks", "irrelevant", "duplicates"),
)
"""The options that are probabilities."""


@dataclass(frozen=True)
class ScmOptions:
    """Options of the structural-causal-model prior; each range is sampled for each table.

    Args:
        layers: Fewest and most hidden layers (few likelier).
        width: Narrowest and widest layer (narrow likelier).
        noise: Smallest and largest noise of a node (small likelier).
        causal: Probability that features are nodes of the network rather than its causes.
        discrete: Probability that some or all causes are categories, whose classes follow from them without loss.
        trees: Probability that a layer is made of random trees rather than a dense map.
        depth: Shallowest and deepest tree.
        categorical: Probability that a column is cut into categories.
        missing: Probability that a table has missing cells.
        unrelated: Probability that a table's classes have nothing to do with its cells.
        imbalance: Largest spread of class sizes: standard deviation of their logarithms; 0 = equal classes.
        levels: Most categories of a column.
        interactions: Probability that a layer combines pairs of nodes: products, gates, comparisons, extremes.
        rules: Probability that a layer is made of random rules: ORs of ANDs of comparisons, as in games and grades.
        regions: Probability that the class is the nearest of several prototypes, or the largest of several scores,
            rather than a piece of one score: classes that have no order.
        many: Probability that the number of classes is uniform in its range rather than small ones likelier.
        narrow: Probability that the number of features is uniform in its logarithm (few likelier) rather than uniform.
        tails: Probability that a column is skewed or has heavy tails.
        outliers: Probability that a table has cells far outside their column.
        rounding: Probability that a column is rounded to a coarse grid.
        blocks: Probability that missing cells come in blocks, or where another column is large, rather than at random.
        irrelevant: Probability that a table has columns that have nothing to do with anything.
        duplicates: Probability that a table has columns that nearly repeat others.
    """

    layers: tuple[int, int] = (1, 5)
    width: tuple[int, int] = (6, 48)
    noise: tuple[float, float] = (1e-3, 0.3)
    causal: float = 0.5
    discrete: float = 0.2
    trees: float = 0.35
    depth: tuple[int, int] = (1, 6)
    categorical: float = 0.2
    missing: float = 0.1
    unrelated: float = 0.05
    imbalance: float = 1.0
    levels: int = 10
    interactions: float = 0.0
    rules: float = 0.0
    regions: float = 0.0
    many: float = 0.0
    narrow: float = 0.0
    tails: float = 0.0
    outliers: float = 0.0
    rounding: float = 0.0
    blocks: float = 0.0
    irrelevant: float = 0.0
    duplicates: float = 0.0

    def __post_init__(self) -> None:
        check_range("layers", self.layers, 1)
        check_range("width", self.width, 1)
        check_range("depth", self.depth, 1)
        if not 0 < self.noise[0] <= self.noise[1]:
            raise ValueError(f"noise must be two numbers, 0 < smallest <= largest, got {list(self.noise)}")
        if self.imbalance < 0:
            raise ValueError(f"imbalance must be at least 0, got {self.imbalance}")
        if self.levels < 2:
            raise ValueError(f"levels must be at least 2, got {self.levels}")
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.trees + self.interactions + self.rules > 1:
            total = self.trees + self.interactions + self.rules
            raise ValueError(f"trees, interactions and rules must add up to at most 1, got {total:g}")


DEFAULT_OPTIONS = ScmOptions()
