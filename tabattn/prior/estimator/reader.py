"""Batched inference of an ensemble, with the KV cache of each context kept between calls."""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tabattn.contract.columns import Floats
from tabattn.contract.errors import outside
from tabattn.prior.classifier_network import ContextCache, ContextClassifier
from tabattn.prior.estimator.arguments import Run
from tabattn.prior.estimator.ensemble import AnyQuestion, Ensemble, Question, Scales
from tabattn.storage.described import plain_defaults

BATCH_TOKENS = {"cpu": 2**15, "cuda": 2**18}
"""Most context tokens of a batch of questions, by device type; a larger question is a batch of its own.

A CPU is fastest if a batch fits its caches, a GPU with large batches.
"""

CACHE_BYTES = 4 * 2**30
"""Most bytes of KV caches kept between calls."""


class Reader(Generic[AnyQuestion]):
    """Network and labelled table, from which answers about further rows are computed.

    Args:
        network: The network; it is not modified.
        x: Context rows, ``(rows, features)``; NaN = missing.
        y: Target of each context row, ``(rows,)``.
        ensemble: Members and their questions.
        scales: Scalings fitted to the context rows; None = they are fitted here.
    """

    _network: ContextClassifier
    _settings: tuple[torch.device, torch.dtype] | None
    _caches: dict[int, ContextCache]

    def __init__(
        self,
        network: ContextClassifier,
        x: Floats,
        y: NDArray[Any],
        ensemble: Ensemble[AnyQuestion],
        scales: Scales | None = None,
    ) -> None:
        self.network = network
        self.x = x
        self.y = y
        self.ensemble = ensemble
        self.scales = Scales(x) if scales is None else scales
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """State without the KV caches, which can be recomputed."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def cached_bytes(self) -> int:
        """Size of the KV caches in bytes."""
        return sum(cache.nbytes for cache in self._caches.values())

    def log_probabilities(self: "Reader[Question]", x: Floats, run: Run) -> NDArray[np.float32]:
        """Log-probabilities of the classes of rows by each member.

        Args:
            x: Target rows, ``(rows, features)``; NaN = missing.
            run: Settings of the prediction.

        Returns:
            Log-probabilities, ``(members, rows, classes)``.
        """
        classes = len(self.ensemble.questions[0].codes)
        out = np.zeros((len(self.ensemble.members), len(x), classes), dtype=np.float32)

        def add(question: Question, rows: slice, logits: Tensor) -> None:
            part = question.codes >= 0
            scores = logits[:, : question.codes.max() + 1].log_softmax(-1).cpu().numpy()
            out[question.member, rows][:, part] += scores[:, question.codes[part]]

        self._answer(x, run, add)
        return out

    def logits(self, x: Floats, run: Run) -> NDArray[np.float32]:
        """Logits of rows by each member, with one question each, ``(members, rows, outputs)``; see above."""
        out = np.zeros((len(self.ensemble.members), len(x), self.network.classes), dtype=np.float32)

        def keep(question: AnyQuestion, rows: slice, logits: Tensor) -> None:
            out[question.member, rows] = logits.cpu().numpy()

        self._answer(x, run, keep)
        return out

    def _answer(self, x: Floats, run: Run, take: Callable[[AnyQuestion, slice, Tensor], None]) -> None:
        """Call a function with each question, the slice of each chunk of rows, and the logits of these rows."""
        self._settle(run)
        views = self.scales(x)
        autocast = torch.autocast(run.device.type, run.dtype, enabled=run.dtype != torch.float32)
        with plain_defaults(), torch.inference_mode(), autocast:
            for index, batch in enumerate(self._batches(run)):
                cache = self._prefilled(index, batch, run)
                for start in range(0, len(x), run.chunk_rows):
                    rows = slice(start, start + run.chunk_rows)
                    logits = self._network.decode(self._stack([self._view(views, q, rows) for q in batch], run), cache)
                    for question, answer in zip(batch, logits.float() / run.temperature, strict=True):
                        take(question, rows, answer)

    def _batches(self, run: Run) -> Iterator[list[AnyQuestion]]:
        """Batches of questions with contexts of one length."""
        limit = BATCH_TOKENS.get(run.device.type, BATCH_TOKENS["cpu"])
        batch: list[AnyQuestion] = []
        for question in sorted(self.ensemble.questions, key=lambda question: len(question.rows)):
            columns = len(self.ensemble.members[question.member].columns)
            tokens = (len(batch) + 1) * len(question.rows) * (columns + 1)
            if batch and (len(batch[0].rows) != len(question.rows) or tokens > limit):
                yield batch
                batch = []
            batch.append(question)
        yield batch

    def _prefilled(self, index: int, batch: list[AnyQuestion], run: Run) -> ContextCache:
        """KV cache of a batch of contexts, computed now or in an earlier call."""
        if index in self._caches:
            return self._caches[index]
        views = self.scales(self.x)
        x = self._stack([self._view(views, question, question.rows) for question in batch], run)
        y = torch.from_numpy(np.stack([question.labels(self.y) for question in batch]))
        cache = self._network.prefill(x, y.to(run.device))
        if run.cache:
            if self.cached_bytes + cache.nbytes <= CACHE_BYTES:
                self._caches[index] = cache
            else:
                warnings.warn(
                    f"the KV caches of the contexts take more than {CACHE_BYTES / 2**30:g} GiB, so that some are read "
                    "anew at each call: lower max_context or n_estimators, or choose cache=False",
                    stacklevel=outside(),
                )
        return cache

    def _view(self, views: list[NDArray[np.float32]], question: AnyQuestion, rows: Any) -> NDArray[np.float32]:
        member = self.ensemble.members[question.member]
        return views[member.scale][rows][:, member.columns]

    def _stack(self, tables: list[NDArray[np.float32]], run: Run) -> Tensor:
        return torch.from_numpy(np.stack(tables)).to(run.device)

    def _settle(self, run: Run) -> None:
        """Move the network to device and dtype of a run; drop KV caches of other settings, or all without ``cache``."""
        if self._settings != (run.device, run.dtype):
            self._forget()
            self._settings = run.device, run.dtype
            if run.device.type != "cpu":
                self._network = copy.deepcopy(self.network).to(run.device)
        if not run.cache:
            self._caches = {}

    def _forget(self) -> None:
        self._network = self.network
        self._settings = None
        self._caches = {}
