"""TNP-A: autoregressive transformer neural process."""

from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.nn.block import Norm
from tabattn.nn.cache import KVCache
from tabattn.nn.densities import pick
from tabattn.pairs.options import DEFAULT_TOKENS, TokenOptions
from tabattn.pairs.sampler import Sampler
from tabattn.pairs.tnpd import TNPD
from tabattn.pairs.tokens import Points


class TNPA(TNPD):
    """Autoregressive transformer neural process: a target attends to the context and to the targets before it.

    Nguyen and Grover 2022 (arXiv 2207.04179), TNP-A. Each target has two tokens: one with its value, which later
    targets read, and one without, from which it is predicted. Context points do not attend to targets, so the KV cache
    of the context stays valid while values are appended. Parameters and the forward pass are those of ``TNPD``.

    Args:
        attention: Mechanism between context points, and from targets where it can answer queries from outside.
        target_attention: Mechanism from targets to context and earlier targets, which takes a mask with a row for each
            query; None = ``attention`` where it can answer queries from outside, else Softmax.
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the hidden layer of each MLP.
        layers: Number of layers.
        members: Largest number of sequences in a task.
        components: Number of Gaussians in each density; 1 = a single Gaussian.
        residual: Baseline that means are predicted as differences from: ``none`` = the mean of the data; ``nearest`` =
            the nearest known value of the same sequence.
        tokens: Encodings of location and member in tokens, and the distance bias of attention.
        norm: Layer normalisation of each layer: ``after`` = post-norm, ``before`` = pre-norm.
    """

    one_pass = True
    residuals = ("none", "nearest")

    def __init__(
        self,
        attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        *,
        dim: int = 64,
        heads: int = 4,
        hidden: int = 128,
        layers: int = 4,
        members: int = 2,
        components: int = 1,
        residual: Literal["none", "nearest"] = "none",
        tokens: TokenOptions = DEFAULT_TOKENS,
        norm: Norm = "after",
    ) -> None:
        super().__init__(
            attention,
            target_attention,
            dim=dim,
            heads=heads,
            hidden=hidden,
            layers=layers,
            members=members,
            components=components,
            residual=residual,
            tokens=tokens,
            norm=norm,
        )
        for block in self.layers():
            check_ordered(block.rows.outsiders, "TNPA")

    def density(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        return self.chain(x, y, member, context)

    def chain(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        known, asked = self.split(x, y, member, context)
        told = self.known_points(x[:, context:], y[:, context:], member[:, context:])
        count, targets = known.x.shape[1], asked.x.shape[1]
        readable = known.followed_by(told)
        before = torch.ones(targets, targets, dtype=torch.bool, device=x.device).tril()
        # A value token attends to itself and earlier values; a query token attends to the values before its target.
        visible = torch.cat([before, before.tril(-1)])
        visible = torch.cat([visible.new_ones(2 * targets, count), visible], dim=1)
        mask = visible if readable.mask is None else visible & readable.mask
        asked = self.expect(readable, asked, visible[targets:])
        points, sizes = readable.followed_by(asked), [count, 2 * targets]
        h, rest = self.tokens(points, count + targets).split(sizes, dim=1)
        at_known, at_rest = self.tokens.waves(points.x).split(sizes, dim=1)
        for block in self.layers():
            cache = KVCache()
            h = block(h, mask=known.mask, cache=cache, locations=at_known)
            rest = block(rest, targets, mask, cache, locations=at_rest)
        return self.answer(rest, asked)

    def sampler(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Sampler:
        return Cached(self, self.known_points(x[:, :context], y[:, :context], member[:, :context]))


class Cached(Sampler):
    """Sampler with a KV cache: the context is prefilled once, and each appended point decoded once.

    Args:
        network: The network.
        known: Context points.
    """

    def __init__(self, network: TNPA, known: Points) -> None:
        self.network = network
        self.known = known
        self.asked: tuple[Tensor, Tensor] | None = None
        self.unread: Points | None = None
        self.caches = [KVCache() for _ in network.layers()]
        h, locations = network.tokens(known, known.x.shape[1]), network.tokens.waves(known.x)
        for block, cache in zip(network.layers(), self.caches, strict=True):
            h = block(h, mask=known.mask, cache=cache, locations=locations)

    def step(self, x: Tensor, member: Tensor) -> Distribution:
        self.asked = x[:, None], member[:, None]
        asked = self.network.expect(self.known, self.network.asked_points(*self.asked))
        # The last appended value and this query attend to the same points, so they pass through the layers together.
        appended = 0 if self.unread is None else 1
        points = asked if self.unread is None else self.unread.followed_by(asked)
        h, locations = self.network.tokens(points, appended), self.network.tokens.waves(points.x)
        for block, cache in zip(self.network.layers(), self.caches, strict=True):
            h = block(h, appended, self.known.mask, cache, locations=locations)
        self.unread = None
        return pick(self.network.answer(h, asked), 0)

    def append(self, y: Tensor) -> None:
        if self.asked is None:
            raise ValueError("append needs a step before it: no point is waiting for its value")
        x, member = self.asked
        self.asked = None
        self.unread = self.network.known_points(x, y[:, None], member)
        self.known = self.known.followed_by(self.unread)


def check_ordered(mechanism: Mechanism, network: str) -> None:
    """Raise ValueError for a mechanism that takes no mask with a row for each query."""
    name = type(mechanism).__name__
    if not mechanism.cross:
        raise ValueError(f"{network} needs a target_attention that can answer queries from outside, got {name}")
    if not mechanism.query_masks:
        raise ValueError(
            f"{network} needs a target_attention whose mask has a row for each query, {name} cannot take one"
        )
