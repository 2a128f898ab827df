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
