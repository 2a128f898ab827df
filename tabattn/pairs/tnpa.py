"""TNP-A: targets read the context and the targets before them, all in one pass."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from tabattn.attention import AttentionFactory, Mechanism, Softmax
from tabattn.nn.block import KeysValues, Norm
from tabattn.nn.densities import pick
from tabattn.pairs.network import TNPD, Residual
from tabattn.pairs.sampler import Sampler
from tabattn.pairs.tokens import MemberEmbed, Points


class TNPA(TNPD):
    """Autoregressive transformer neural process: a target may read the context and the true values before it.

    Nguyen and Grover 2022 (arXiv 2207.04179), TNP-A. Each target is there twice: with its value, for those behind it
    to read, and without, as the question. Context points do not read targets, so their keys and values are computed
    once, however many values follow. Weights are those of ``TNPD``, and so is what one forward pass yields.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the hidden layer of each MLP.
        layers: Number of layers.
        members: Number of sequences a task may have.
        attention: Mechanism between context points, and from targets where it can.
        target_attention: Mechanism from targets to what they may read, which takes a mask with a row for each query;
            None = ``attention`` where it can answer queries from outside, else Softmax.
        components: Gaussians in each density; 1 = a plain Gaussian.
        residual: What a mean is counted from: ``none`` = the mean of the data; ``nearest`` = the nearest known value of
            the same sequence.
        member_embed: How a token tells its sequence: ``one_hot``, or a ``learned`` vector; ``hidden`` = known points do
            not tell, so that attention cannot follow a sequence.
        fourier: Wavelengths at which a place is shown, from twice the axis down by halves.
        centred: For likeness with ``TNPD``; refused.
        norm: Whether each layer normalises its sums (``after``) or what it reads (``before``).
    """

    one_pass = True

    def __init__(
        self,
        dim: int = 64,
        heads: int = 4,
        hidden: int = 128,
        layers: int = 6,
        members: int = 2,
        attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        components: int = 1,
        residual: Residual = "none",
        member_embed: MemberEmbed = "one_hot",
        fourier: int = 2,
        centred: bool = False,
        norm: Norm = "after",
    ) -> None:
        super().__init__(
            dim,
            heads,
            hidden,
            layers,
            members,
            attention,
            target_attention,
            components,
            residual,
            member_embed,
            fourier,
            centred,
            norm,
        )
        for block in self.layers():
            check_ordered(block.rows.outsiders, "tnpa")

    def density(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        return self.chain(x, y, member, context)

    def chain(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Distribution:
        known, asked = self.split(x, y, member, context)
        told = self.known_points(x[:, context:], y[:, context:], member[:, context:])
        count, targets = known.x.shape[1], asked.x.shape[1]
        readable = known.followed_by(told)
        before = torch.ones(targets, targets, dtype=torch.bool, device=x.device).tril()
        # A value is read by itself and by those behind it; a question reads the values before it.
        visible = torch.cat([before, before.tril(-1)])
        visible = torch.cat([visible.new_ones(2 * targets, count), visible], dim=1)
        mask = visible if readable.mask is None else visible & readable.mask
        asked = self.expect(readable, asked, visible[targets:])
        tokens = self.tokens(readable.followed_by(asked), count + targets)
        h, rest = tokens.split([count, 2 * targets], dim=1)
        for block in self.layers():
            h, memory = block.remember(h, known.mask)
            rest, _ = block.recall(rest, memory, targets, mask)
        return self.answer(rest, asked)

    def sampler(self, x: Tensor, y: Tensor, member: Tensor, context: int) -> Sampler:
        return Cached(self, self.known_points(x[:, :context], y[:, :context], member[:, :context]))


class Cached(Sampler):
    """Reads the context once, and each appended point once.

    Args:
        network: What is asked.
        known: The context.
    """

    def __init__(self, network: TNPA, known: Points) -> None:
        self.network = network
        self.known = known
        self.memory: list[KeysValues] = []
        self.asked: tuple[Tensor, Tensor] | None = None
        self.unread: Points | None = None
        h = network.tokens(known, known.x.shape[1])
        for block in network.layers():
            h, memory = block.remember(h, known.mask)
            self.memory.append(memory)

    def step(self, x: Tensor, member: Tensor) -> Distribution:
        self.asked = x[:, None], member[:, None]
        asked = self.network.expect(self.known, self.network.asked_points(*self.asked))
        # The last appended value and this question may read the same points, so they go through the layers together.
        told = 0 if self.unread is None else 1
        h = self.network.tokens(asked if self.unread is None else self.unread.followed_by(asked), told)
        for i, block in enumerate(self.network.layers()):
            h, self.memory[i] = block.recall(h, self.memory[i], told, self.known.mask)
        self.unread = None
        return pick(self.network.answer(h, asked), 0)

    def append(self, y: Tensor) -> None:
        if self.asked is None:
            raise ValueError("append needs a step before it: no point is waiting for its value")
        x, member = self.asked
        self.asked = None
        self.unread = self.network.known_points(x, y[:, None], member)
        self.known = self.known.followed_by(self.unread)


def check_ordered(mechanism: Mechanism, arch: str) -> None:
    """Raise ValueError where a mechanism cannot let each of several targets read points of its own."""
    name = type(mechanism).__name__
    if not mechanism.cross:
        raise ValueError(f"{arch} needs a target_attention that can answer queries from outside, got {name}")
    if not mechanism.query_masks:
        raise ValueError(f"{arch} needs a target_attention whose mask has a row for each query, {name} cannot take one")
