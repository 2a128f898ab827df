"""What can be asked of an inference."""

from dataclasses import dataclass
from typing import Literal

ALL = 999
"""``num_steps`` that stands for all targets, however many."""


@dataclass(frozen=True)
class InferenceOptions:
    """How a task is laid out for inference, and what is drawn.

    Args:
        samples: Trajectories drawn for each task; every step draws a value from the predicted density and goes on from
            it.
        context_p: Points that each sequence to be inferred shows; none = those that the batch shows, the first quarter
            of a sequence that it shows as a whole.
        consec: Whether the shown points are the first ones; else they are random ones among the first ``pool``.
        order: Whether everything is ordered by x; else points keep the order of the batch.
        num_steps: Most targets to predict, counted from the first; 999 = all of them.
        mean: Whether one more trajectory goes on from predicted means.
        given_member: The sequence that is given as a whole; none = all that the batch shows as a whole, the first
            sequence in a task where there is no such one.
        pool: How many points of a task, of all its sequences, random context points come from.
        path: In which order targets are predicted: ``given`` as they are laid out, ``left_to_right`` by x, ``random``
            in an order of its own in each trajectory.
        seed: Another one draws other trajectories.
    """

    samples: int = 10
    context_p: int | None = None
    consec: bool = True
    order: bool = True
    num_steps: int = ALL
    mean: bool = True
    given_member: int | None = None
    pool: int = 120
    path: Literal["given", "left_to_right", "random"] = "given"
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {"samples": 0, "context_p": 0, "num_steps": 1, "given_member": 0, "pool": 1, "seed": 0}
        for name, least in bounds.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not self.samples and not self.mean:
            raise ValueError("samples must be at least 1 where mean is false, got 0")
        if not self.consec and self.context_p is None:
            raise ValueError("context_p must be a number where consec is false: how many random points are shown")
        if not self.consec and self.context_p is not None and self.context_p > self.pool:
            raise ValueError(f"context_p must be at most pool = {self.pool}, got {self.context_p}")
        if self.path not in ("given", "left_to_right", "random"):
            raise ValueError(f"path must be given, left_to_right or random, got {self.path!r}")


@dataclass(frozen=True)
class TokenOptions:
    """How a token shows the place of a point, and which sequence it belongs to.

    Args:
        member_embed: Code of the sequence: ``one_hot``, or a ``learned`` vector; ``hidden`` = context tokens have none,
            so that attention cannot follow a sequence, and first predictions fall between the sequences (not for
            ``SeedNetwork``, whose context never has one).
        fourier: Number of Fourier features of the location, with wavelengths from twice the axis down by halves.
    """

    member_embed: Literal["one_hot", "learned", "hidden"] = "one_hot"
    fourier: int = 2

    def __post_init__(self) -> None:
        if self.member_embed not in ("one_hot", "learned", "hidden"):
            raise ValueError(f"member_embed must be one_hot, learned or hidden, got {self.member_embed!r}")
        if self.fourier < 0:
            raise ValueError(f"fourier must be at least 0, got {self.fourier}")


DEFAULT_TOKENS = TokenOptions()
