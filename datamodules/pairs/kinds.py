"""Kinds of synthetic tasks by name: distributions of Gaussian processes, sizes and locations."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from datamodules.draws import integer
from datamodules.pairs.kernels import KERNELS, Kernel, Process, Term, correlations
from tabattn.contract.checks import check_range

Kind = Literal[
    "const",
    "rbf",
    "icm",
    "indep",
    "copy",
    "tnp",
    "single_rbf",
    "single_periodic",
    "single_noise",
    "rbf_const_2D",
    "rbf_rbf_2D",
]

DETAIL = 0.4
"""Length scale of the own functions of later sequences of ``rbf``, as a share of the shared one."""

BEYOND = (0.01, 0.5)
"""Distances beyond the axis, as shares of it, between which locations of an extrapolation lie."""

GRID = (12, 13)
"""Grid points for a single unknown parameter; for two, those of the first and of the second."""


class PairPlan(NamedTuple):
    """Distribution of synthetic tasks.

    Attributes:
        structure: Relation of the sequences: ``shift`` = one function, plus a constant for each; ``detail`` = one
            function, to which each but the first adds one of its own; ``correlated`` = correlated functions; ``single``
            = one sequence.
        sizes: Distribution of the sizes of a batch: ``fixed`` = as ``points`` says; ``halves`` = each point belongs to
            any sequence; ``fewer`` = after the context, 3 targets or more, ``points`` at most in all.
        points: Points of each sequence.
        context: Fewest and most context points of the sequence to infer.
        every: Whether half of the batches draw the number of context points from ``FEW`` to all but one instead.
        x_range: Ends of the axis.
        eps: Standard deviation of the noise.
        kernel: Kernel of the shared function, or of the correlated ones.
        length: Smallest and largest length scale.
        amplitude: Smallest and largest standard deviation of the function.
        period: Smallest and largest period.
        correlation: Smallest and largest correlation of two sequences; of more, partial correlation.
        shift: Standard deviation of the constants of ``shift``.
        beyond: Most points of each sequence that lie beyond the upper end of the axis, and are never context of a
            sequence to infer.
    """

    structure: Literal["shift", "detail", "correlated", "single"] = "correlated"
    sizes: Literal["fixed", "halves", "fewer"] = "fixed"
    points: tuple[int, ...] = (32, 32)
    context: tuple[int, int] = (8, 8)
    every: bool = False
    x_range: tuple[float, float] = (-2.0, 2.0)
    eps: float = 0.05
    kernel: Kernel = "rbf"
    length: tuple[float, float] = (0.25, 1.0)
    amplitude: tuple[float, float] = (1.0, 1.0)
    period: tuple[float, float] = (0.5, 1.5)
    correlation: tuple[float, float] = (-0.95, 0.95)
    shift: float = 2.0
    beyond: int = 0

    @property
    def members(self) -> int:
        """Number of sequences."""
        return len(self.points)

    @property
    def margin(self) -> int:
        """Fewest targets of a batch."""
        return 3 if self.sizes == "fewer" else 1

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Ranges drawn from for each task: length scale, amplitude, period, then the partial correlations."""
        partial = self.members * (self.members - 1) // 2 if self.structure == "correlated" else 0
        return (self.length, self.amplitude, self.period, *[self.correlation] * partial)

    @property
    def optional(self) -> dict[str, bool]:
        """Whether the plan uses each optional argument, by name."""
        correlated = self.structure == "correlated" and self.members > 1
        return {"shift": self.structure == "shift", "correlation": correlated, "period": self.kernel == "periodic"}

    @property
    def spread(self) -> float:
        """Standard deviation of a value over all tasks."""
        low, high = self.amplitude
        function = (low**2 + low * high + high**2) / 3
        extra = {"shift": self.shift**2, "detail": function}.get(self.structure, 0.0)
        return math.sqrt(function + extra + self.eps**2)

    def check(self) -> None:
        """Raise ValueError for a value out of its bounds."""
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {self.kernel!r}")
        if not self.points or min(self.points) < 2:
            raise ValueError(f"points must be at least 2 of each sequence, got {list(self.points)}")
        if self.structure == "single" and self.members > 1:
            raise ValueError(f"points must be one number for single sequences, got {list(self.points)}")
        check_range("context", self.context, 1)
        if self.context[1] > min(self.points) - self.margin:
            most = min(self.points) - self.margin
            raise ValueError(f"context must be at most {most} of {min(self.points)} points, got {self.context[1]}")
        if not self.x_range[0] < self.x_range[1]:
            raise ValueError(f"x_range must be two numbers, lowest < highest, got {list(self.x_range)}")
        for name, least in (("eps", self.eps), ("shift", self.shift), ("amplitude", self.amplitude[0])):
            if not least >= 0:
                raise ValueError(f"{name} must be at least 0, got {least}")
        for name, positive in (("length", self.length[0]), ("period", self.period[0])):
            if not positive > 0:
                raise ValueError(f"{name} must be above 0, got {positive}")
        for name in ("length", "amplitude", "period", "correlation"):
            bounds = getattr(self, name)
            if not bounds[0] <= bounds[1] < math.inf:
                raise ValueError(f"{name} must be two numbers, smallest <= largest, got {list(bounds)}")
        if not -1 <= self.correlation[0] <= self.correlation[1] <= 1:
            raise ValueError(f"correlation must be within [-1, 1], got {list(self.correlation)}")
        if self.spread == 0:
            raise ValueError("eps, amplitude and shift must not all be 0")


_ORIGINAL = PairPlan(x_range=(5.0, 15.0), eps=0.0, length=(1.0, 1.0), period=(3.0, 3.0), context=(50, 50))

KINDS: dict[str, PairPlan] = {
    "const": PairPlan("shift", x_range=(5.0, 15.0), length=(1.0, 1.0)),
    "rbf": PairPlan("detail", x_range=(5.0, 15.0), length=(1.0, 1.0)),
    "icm": PairPlan(),
    "indep": PairPlan(correlation=(0.0, 0.0)),
    "copy": PairPlan(correlation=(1.0, 1.0)),
    "tnp": PairPlan(
        "single",
        "fewer",
        points=(49,),
        context=(3, 46),
        eps=0.02,
        length=(0.1, 0.6),
        amplitude=(0.1, 1.0),
        period=(0.1, 0.5),
    ),
    "single_rbf": _ORIGINAL._replace(structure="single", points=(200,)),
    "single_periodic": _ORIGINAL._replace(structure="single", points=(200,), kernel="periodic"),
    "single_noise": _ORIGINAL._replace(structure="single", points=(200,), eps=math.sqrt(0.05)),
    "rbf_const_2D": _ORIGINAL._replace(structure="shift", points=(200, 200)),
    "rbf_rbf_2D": _ORIGINAL._replace(structure="detail", sizes="halves", points=(200, 200)),
}
"""Default plan of each kind."""


def draw_sizes(plan: PairPlan, source: Generator) -> tuple[tuple[int, ...], int]:
    """Draw the number of points of each sequence of a batch, and of the context of the one to infer."""
    shown = integer(*plan.context, source)
    if plan.sizes == "fewer":
        return (shown + integer(plan.margin, plan.points[0] - shown, source),), shown
    points = plan.points
    while plan.sizes == "halves":
        owners = torch.randint(plan.members, (sum(plan.points),), generator=source)
        points = tuple(owners.bincount(minlength=plan.members).tolist())
        if min(points) > shown:
            break
    return points, shown


def locations(plan: PairPlan, uniforms: Tensor, beyond: Tensor) -> Tensor:
    """Locations from uniform numbers, ``(batch, points)``: on the axis, or beyond its upper end by ``BEYOND``.

    Args:
        plan: Distribution of the tasks.
        uniforms: Uniform random numbers, ``(batch, points)``.
        beyond: Which points lie beyond the axis, ``(points,)``.
    """
    low, high = plan.x_range
    near, far = BEYOND
    return torch.where(beyond, high + (high - low) * (near + (far - near) * uniforms), low + (high - low) * uniforms)


def make_process(plan: PairPlan, uniforms: Tensor) -> Process:
    """Gaussian processes from uniform numbers, one for each range of the plan, ``(batch, ranges)``."""
    low, high = torch.tensor(plan.ranges, dtype=torch.float64).unbind(1)
    length, amplitude, period, *partial = (low + (high - low) * uniforms.double()).unbind(1)
    variance = amplitude.square()[:, None, None]
    members = plan.members
    noise = torch.full_like(length, plan.eps**2)
    if plan.structure in ("correlated", "single"):
        related = correlations(torch.stack(partial, 1) if partial else uniforms[:, :0], members)
        return Process((Term(plan.kernel, length, period, variance * related),), noise)
    own = torch.eye(members, dtype=torch.float64)
    common = Term(plan.kernel, length, period, variance.expand(-1, members, members))
    if plan.structure == "shift":
        return Process((common, Term(None, length, period, (plan.shift**2 * own).expand(len(length), -1, -1))), noise)
    own[0, 0] = 0
    return Process((common, Term(plan.kernel, DETAIL * length, period, variance * own)), noise)


def grid(plan: PairPlan) -> Tensor:
    """Quadrature grid over the unknown parameters of a plan, as uniform numbers, ``(processes, ranges)``.

    Raises:
        ValueError: More than two parameters are unknown.
    """
    unknown = [i for i, (low, high) in enumerate(plan.ranges) if low < high and (i != 2 or plan.kernel == "periodic")]
    if len(unknown) > len(GRID):
        raise ValueError(f"at most {len(GRID)} unknowns of a process can be averaged over, got {len(unknown)}")
    steps = [(torch.arange(count, dtype=torch.float64) + 0.5) / count for count in GRID[: len(unknown)]]
    table = torch.full((math.prod(map(len, steps)), len(plan.ranges)), 0.5, dtype=torch.float64)
    if unknown:
        table[:, unknown] = torch.cartesian_prod(*steps).reshape(-1, len(unknown))
    return table
