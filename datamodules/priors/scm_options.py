"""What the random causal models of the default prior may look like."""

from dataclasses import dataclass

from datamodules.checks import check_range


@dataclass(frozen=True)
class ScmOptions:
    """What the random causal models may look like; every range is sampled anew for each table.

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

    def __post_init__(self) -> None:
        check_range("layers", self.layers, 1)
        check_range("width", self.width, 1)
        check_range("depth", self.depth, 1)
        if not 0 < self.noise[0] <= self.noise[1]:
            raise ValueError(f"noise must be two numbers, 0 < smallest <= largest, got {list(self.noise)}")
        if self.imbalance < 0:
            raise ValueError(f"imbalance must be at least 0, got {self.imbalance}")
        for name in ("causal", "discrete", "trees", "categorical", "missing", "unrelated"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")


DEFAULT_OPTIONS = ScmOptions()
