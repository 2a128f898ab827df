"""Profiles of a zoo: which tasks and networks are drawn, and how they are trained."""

from dataclasses import dataclass

SEED_ACTIVATIONS = ("relu", "tanh", "sigmoid")
ALL_ACTIVATIONS = (*SEED_ACTIVATIONS, "gelu", "silu", "leaky_relu", "elu", "softplus", "sine", "identity")


@dataclass(frozen=True)
class TaskProfile:
    """Distribution of regression tasks.

    Args:
        tasks: Number of tasks, unless it is given.
        families: Kinds of functions, of equal probability.
        columns: Fewest and most columns.
        rows: Fewest and most rows.
        noise: Smallest and largest standard deviation of the noise, in those of the function.
        correlated: Probability that the columns of a task are correlated.
    """

    tasks: int
    families: tuple[str, ...]
    columns: tuple[int, int]
    rows: tuple[int, int]
    noise: tuple[float, float]
    correlated: float


@dataclass(frozen=True)
class NetworkProfile:
    """Distribution of networks, and their training.

    Args:
        depth: Fewest and most hidden layers.
        width: Fewest and most neurons of a hidden layer.
        activations: Activation functions, of equal probability for each layer.
        bias: Probability that a layer has biases.
        skip: Probability that a network has weights that skip layers.
        sparse: Probability that a network lacks weights, 10 to 60 % of them.
        rate: Smallest and largest learning rate; the logarithm is uniform.
        steps: Training steps.
        batch: Rows of a step.
    """

    depth: tuple[int, int]
    width: tuple[int, int]
    activations: tuple[str, ...]
    bias: float
    skip: float
    sparse: float
    rate: tuple[float, float]
    steps: int
    batch: int


@dataclass(frozen=True)
class Profile:
    """Profile of a zoo.

    Args:
        tasks: Its tasks.
        networks: Its networks.
    """

    tasks: TaskProfile
    networks: NetworkProfile


FAMILIES = ("linear", "fourier", "mlp", "friedman1", "friedman2", "friedman3", "additive", "tree")

SMALL = NetworkProfile((1, 3), (4, 8), SEED_ACTIVATIONS, 1.0, 0.0, 0.0, (3e-3, 3e-2), 400, 50)

PROFILES = {
    "seed": Profile(
        TaskProfile(20, ("linear",), (10, 10), (1000, 1000), (0.0, 0.0), 0.0),
        SMALL,
    ),
    "mixed": Profile(
        TaskProfile(2000, FAMILIES, (10, 10), (1000, 1000), (0.0, 0.3), 0.5),
        SMALL,
    ),
    "default": Profile(
        TaskProfile(100, FAMILIES, (4, 16), (400, 1000), (0.0, 0.3), 0.5),
        NetworkProfile((1, 5), (4, 32), ALL_ACTIVATIONS, 0.8, 0.2, 0.2, (1e-3, 2e-2), 800, 50),
    ),
}
"""Profiles by name: `seed` is the family of networks of the original NetFormer, `mixed` has these on many tasks
of all families, `default` is a wider one."""

CHECKPOINTS = (0.1, 0.25, 0.5, 1.0)
"""Shares of the training after which a network is stored."""

SHARES = (0.7, 0.15, 0.15)
"""Shares of the rows of a task that are for training, validation and test."""
