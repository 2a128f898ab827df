"""Priors of latents: normal distributions, kernel densities, and latent flow matching."""

from math import inf
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

Prior = Literal["normal", "scaled", "gauss", "kde", "flow"]
"""Distributions that latents are drawn from."""
STEPS = 24
"""Steps of Heun's method by which a flow is integrated."""
BANDWIDTH = 0.1
"""Standard deviation of a kernel, relative to that of a dimension."""


def check_temperature(name: str, temperature: float) -> None:
    """Raise ValueError unless a factor on the standard deviation of noise is at least 0 and finite."""
    if not 0 <= temperature < inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {temperature}")


class Kept:
    """Latents of training networks, the oldest first.

    Copies of a network share them (``copy.deepcopy`` returns them themselves), and they are no buffer, so that moving
    averages of weights have them as they are: an average over time would be one of latents of different networks.

    Args:
        latent: Width of a latent.
        most: Most latents that are kept.

    Attributes:
        values: The latents, ``(number, latent)``.
    """

    def __init__(self, latent: int, most: int) -> None:
        self.most = most
        self.values = torch.zeros(0, latent)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def add(self, latent: Tensor) -> None:
        """Keep latents in place of the oldest."""
        self.values = torch.cat([self.values.to(latent.device), latent.detach().float()])[-self.most :]


class LatentPrior(nn.Module):
    """Distributions of the latents of training networks, learned while these are trained.

    ``normal``: N(0, I). ``scaled``: independent normal distributions. ``gauss``: a normal distribution with all
    covariances. ``kde``: a latent of a training network, and noise. ``flow``: flow matching (Lipman et al. 2023), an
    ordinary differential equation from N(0, I) to the latents, given what is told of the task.

    Args:
        latent: Width of a latent.
        told: Width of what is told of a task.
        hidden: Width of the hidden layers of the flow; None = 4 times that of the latent, from 64 to 512.
        kept: Number of latents that are kept.
    """

    def __init__(self, latent: int, told: int, hidden: int | None = None, kept: int = 4096) -> None:
        super().__init__()
        self.latent = latent
        hidden = hidden or max(64, min(512, 4 * latent))
        self.memory = Kept(latent, kept)
        self.told = nn.Linear(told, hidden) if told else None
        self.enter = nn.Linear(latent + 16, hidden)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(3)
        )
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, latent))

    def velocity(self, state: Tensor, time: Tensor, told: Tensor) -> Tensor:
        """Velocity of the flow at states ``(latents, latent)`` and times ``(latents, 1)``."""
        waves = time * torch.arange(1, 9, device=time.device) * torch.pi
        found = self.enter(torch.cat([state, waves.sin(), waves.cos()], dim=-1))
        if self.told is not None:
            found = found + self.told(told)
        for layer in self.layers:
            found = found + layer(found)
        return self.leave(F.silu(found))

    def loss(self, latent: Tensor, told: Tensor) -> Tensor:
        """Flow-matching loss of latents, of which no gradient is taken; keeps some of them."""
        latent, told = latent.detach(), told.detach()
        if self.training:
            self.keep(latent)
        time, noise = torch.rand(len(latent), 1, device=latent.device), torch.randn_like(latent)
        scale = self._scale()
        end = latent / scale
        velocity = self.velocity((1 - time) * noise + time * end, time, told)
        return (velocity.float() - (end - noise)).square().mean()

    def keep(self, latent: Tensor) -> None:
        """Keep latents in place of the oldest."""
        self.memory.add(latent)

    def kept(self) -> Tensor:
        """Latents of training networks, ``(number, latent)``.

        Raises:
            ValueError: There is none, or some are not finite.
        """
        kept = self.memory.values
        if len(kept) < 2:
            raise ValueError("this prior is of latents of training networks, and there are none: train the task")
        if not kept.isfinite().all():
            raise ValueError("this prior is of latents of training networks, and some are not finite: train anew")
        return kept.to(self.enter.weight.device)

    def _scale(self) -> Tensor:
        """Root mean square of the latents kept, a scalar; 1 without any."""
        kept = self.memory.values.to(self.enter.weight.device)
        return kept.square().mean().sqrt().clamp(min=1e-3) if len(kept) else kept.new_ones(())

    def get_extra_state(self) -> Tensor:
        """Latents kept, as part of the ``state_dict``."""
        kept = self.memory.values
        return kept if kept.is_meta else kept.cpu()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the latents kept.

        Raises:
            ValueError: They have another width.
        """
        if state.dim() != 2 or state.shape[1] != self.latent:
            raise ValueError(f"latents kept must have the shape (number, {self.latent}), got {tuple(state.shape)}")
        self.memory.values = state.float()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *given: Any) -> None:
        """Load a state; in files of earlier versions the latents kept are a buffer with room for more."""
        buffer, count = (state_dict.pop(f"{prefix}{name}", None) for name in ("latents", "count"))
        if buffer is not None:
            state_dict.setdefault(f"{prefix}_extra_state", buffer if count is None else buffer[: int(count)])
        super()._load_from_state_dict(state_dict, prefix, *given)

    @torch.no_grad()
    def sample(
        self,
        told: Tensor,
        prior: Prior = "flow",
        temperature: float = 1.0,
        source: Generator | None = None,
        steps: int = STEPS,
    ) -> Tensor:
        """Draw a latent for each task, ``(tasks, latent)``.

        Args:
            told: What is told of the tasks, ``(tasks, told)``.
            prior: Distribution.
            temperature: Factor on the standard deviation of the noise.
            source: Source of randomness; none = PyTorch's own.
            steps: Steps of the flow, each of two evaluations.

        Raises:
            ValueError: There is no such distribution, the temperature is out of its bounds, or no latent of a training
                network has been kept.
        """
        if prior not in get_args(Prior):
            raise ValueError(f"prior must be {', '.join(get_args(Prior))}, got {prior!r}")
        check_temperature("temperature", temperature)
        noise = temperature * torch.randn(len(told), self.latent, generator=source).to(told.device)
        if prior == "normal":
            return noise
        kept = self.kept()
        if prior == "flow":
            return self._flowed(noise, told, steps)
        mean, std = kept.mean(0), kept.std(0)
        if prior == "scaled":
            return mean + std * noise
        if prior == "kde":
            chosen = torch.randint(len(kept), (len(told),), generator=source).to(told.device)
            return kept[chosen] + BANDWIDTH * std * noise
        jitter = 1e-6 * std.square().mean().clamp(min=1e-12) * torch.eye(self.latent, device=told.device)
        factor = torch.linalg.cholesky(torch.cov(kept.T).view_as(jitter) + jitter)
        return mean + noise @ factor.T

    def _flowed(self, state: Tensor, told: Tensor, steps: int) -> Tensor:
        """Integrate the flow by Heun's method."""
        for step in range(steps):
            time = torch.full((len(state), 1), step / steps, device=state.device)
            first = self.velocity(state, time, told).float()
            second = self.velocity(state + first / steps, time + 1 / steps, told).float()
            state = state + (first + second) / (2 * steps)
        return state * self._scale()
