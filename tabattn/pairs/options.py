"""Options of inference and of tokens."""

from dataclasses import dataclass
from typing import Literal

ALL = 999
"""Value of ``num_steps`` that means all targets."""


@dataclass(frozen=True)
class InferenceOptions:
    """Options of inference: the layout of a task, and the trajectories to draw.

    Args:
        samples: Number of sampled trajectories per task; each step draws a value from the predicted density and
            conditions on it.
        context_p: Number of context points of each sequence to infer; None = those of the batch, or the first
            quarter of a sequence whose points are all context there.
        consec: Whether the context points are the first ones; otherwise random ones among the first ``pool``.
        order: Whether to sort points by location; otherwise they keep the order of the batch.
        num_steps: Most targets to predict, from the first on; 999 = all.
        mean: Whether to also follow the trajectory of means: each step conditions on the means before it.
        given_member: Sequence whose points are all given; None = those whose points are all context in the batch, or
            the first sequence if there is none. A single sequence is inferred from its own context.
        pool: Number of leading points of a task, over all sequences, from which random context points are drawn.
        path: Order of prediction: ``given`` (as laid out), ``left_to_right`` (by location), or ``random`` (drawn for
            each trajectory).
        seed: Seed of the sampled trajectories.
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
    """Options of tokens: encodings of location and sequence.

    Args:
        member_embed: Encoding of the sequence: ``one_hot``, or a ``learned`` vector; ``hidden`` = none in context
            tokens, so that attention cannot tell sequences apart, and first predictions fall between them (not for
            ``SeedNetwork``, whose context never has one).
        fourier: Number of Fourier features of the location, with wavelengths from twice the axis down by halves; None =
            tokens without the location, so that only differences of locations count, and a shift of all of them changes
            no prediction (not for ``SeedNetwork``; not with ``Inducing`` and ``Linear``, which do not compare a query
            with a key).
        distances: Number of wavelengths, from twice the axis to a 16th of it, of a learned function of the distance
            ``|x - x'|`` that each head adds to its scores; 0 = none (as for ``SeedNetwork``).
        relative: Whether attention rotates values by angles proportional to ``x - x'``, at wavelengths among those of
            ``distances``, so that a point reads where the others lie relative to itself.
    """

    member_embed: Literal["one_hot", "learned", "hidden"] = "one_hot"
    fourier: int | None = 2
    distances: int = 0
    relative: bool = False

    def __post_init__(self) -> None:
        if self.member_embed not in ("one_hot", "learned", "hidden"):
            raise ValueError(f"member_embed must be one_hot, learned or hidden, got {self.member_embed!r}")
        for name, value in (("fourier", self.fourier), ("distances", self.distances)):
            if value is not None and value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if self.relative and not self.distances:
            raise ValueError("distances must be at least 1 where relative is true, which takes its wavelengths, got 0")
        if self.fourier is None and not self.distances:
            raise ValueError("distances must be at least 1 where fourier is none: nothing else reads locations, got 0")


DEFAULT_TOKENS = TokenOptions()
