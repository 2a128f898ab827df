"""Scores of predicted tokens: perplexity, bits per character and accuracy, exact over processes."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class TokenScores(Metric):
    """Scores of hidden tokens, as sums over all of them.

    ``loss`` is the mean negative log-likelihood in nats, ``perplexity`` its exponential, ``bits_per_character`` the
    negative log-likelihood of the hidden tokens in bits over the characters that they stand for, ``accuracy`` the share
    of tokens that are the likeliest. ``unigram_perplexity`` is that of the frequency of each token, where it is told.
    """

    full_state_update = False
    nats: Tensor
    unigram: Tensor
    right: Tensor
    tokens: Tensor
    characters: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("nats", "unigram"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.double), dist_reduce_fx="sum")
        for name in ("right", "tokens", "characters"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor, characters: Tensor, unigram: Tensor | None = None) -> None:
        """Add hidden tokens.

        Args:
            logits: ``(tokens, vocabulary)``.
            labels: True tokens, ``(tokens,)``.
            characters: Characters that each stands for, ``(tokens,)``.
            unigram: Log-probability of each token of the vocabulary by its frequency; None = not known.
        """
        self.nats += torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none").double().sum()
        self.unigram -= math.nan if unigram is None else unigram[labels].double().sum()
        self.right += (logits.argmax(-1) == labels).sum()
        self.tokens += labels.numel()
        self.characters += characters.sum()

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name; none of no tokens."""
        if not self.tokens:
            return {}
        loss = self.nats / self.tokens
        scores = {"loss": loss, "perplexity": loss.exp(), "accuracy": self.right / self.tokens}
        if self.characters:
            scores["bits_per_character"] = self.nats / math.log(2) / self.characters
        if not self.unigram.isnan():
            scores["unigram_perplexity"] = (self.unigram / self.tokens).exp()
        return scores
