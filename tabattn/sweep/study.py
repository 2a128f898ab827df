"""Study of a sweep: workers claim trials one at a time, and those of killed workers are run again."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabattn.compare.leases import Lease, held, locked
from tabattn.sweep.folder import STUDY, Folder
from tabattn.sweep.space import Parameter, parameter, unseen

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

STARTUP = 5
"""First trials, which are drawn at random, and of which none is stopped."""

ATTEMPTS = 3
"""Most times that a trial whose worker was killed is run."""

AGAIN = "again"
"""Attribute of a trial that does not count: it was run, or drawn, again; its value says why."""


def load(folder: Folder, seed: int = 0) -> "Study":
    """Open the study, or make it.

    Args:
        folder: Folder of the sweep.
        seed: Seed of the next draw.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = folder.settings()
    every = settings.validations
    first = 0 if settings.budget["kind"] == "seconds" else int(settings.budget["value"]) // every + 1
    median = optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=first)
    return optuna.create_study(
        storage=folder.storage(),
        study_name=STUDY,
        direction="maximize" if settings.mode == "max" else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP),
        pruner=median if settings.prune else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def counted(trials: "Sequence[FrozenTrial]") -> "list[FrozenTrial]":
    """Select the trials that count: those that ended or are running, without those that were run or drawn again."""
    return [each for each in trials if each.state.name != "WAITING" and AGAIN not in each.user_attrs]


@dataclass(frozen=True)
class Claims:
    """Trials of a sweep, given to workers.

    With one worker, the trials are a function of the settings, whatever was interrupted.

    Args:
        folder: Folder of the sweep.
        most: Number of trials.
    """

    folder: Folder
    most: int

    @property
    def space(self) -> list[Parameter]:
        """The tuned flags."""
        return [parameter(text) for text in self.folder.settings().tune]

    def claim(self) -> "tuple[Trial, Lease] | str":
        """Claim the next trial.

        Returns:
            The trial and its lease; or why there is none: ``done``, ``tried`` (every combination), or ``wait`` (others
            run).
        """
        with self._alone():
            study = load(self.folder)
            self._return_lost(study)
            trials = study.get_trials(deepcopy=False)
            running = any(each.state.name == "RUNNING" for each in trials)
            if len(counted(trials)) >= self.most:
                return "wait" if running else "done"
            if (trial := self._fresh(len(counted(trials)))) is None:
                return "wait" if running else "tried"
            own = self.folder.trial(trial.number)
            own.mkdir(parents=True, exist_ok=True)
            lease = Lease.take(own, "sweep")
            assert lease is not None
            return trial, lease

    def finish(self, trial: "Trial", state: str, value: float | None = None, **facts: Any) -> bool:
        """Record the end of a trial.

        Args:
            trial: The trial.
            state: ``COMPLETE``, ``PRUNED`` or ``FAIL``.
            value: Its score, where it is complete.
            facts: Further facts, such as the reason of a failure.

        Returns:
            False if the trial is no longer this worker's, which was taken for dead.
        """
        with self._alone():
            if trial.study.get_trials(deepcopy=False)[trial.number].state.name != "RUNNING":
                return False
            self._end(trial, state, value, **facts)
            return True

    def give_back(self, study: "Study", number: int, reason: str, attempts: int = ATTEMPTS) -> None:
        """End a trial that did not, and queue its values again, unless it has been run often enough."""
        from optuna.trial import TrialState

        frozen = study.get_trials(deepcopy=False)[number]
        attempt = frozen.user_attrs.get("attempt", 1)
        last = attempt >= attempts
        study._storage.set_trial_user_attr(frozen._trial_id, "reason" if last else AGAIN, reason)
        study.tell(number, state=TrialState.FAIL)
        if not last and {each.flag for each in self.space} <= frozen.params.keys():
            study.enqueue_trial(frozen.params, user_attrs={"attempt": attempt + 1})

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Context in which no other worker claims or ends a trial."""
        with contextlib.ExitStack() as stack:
            while not stack.enter_context(locked(self.folder.path)):
                pass
            yield

    def _end(self, trial: "Trial", state: str, value: float | None = None, **facts: Any) -> None:
        from optuna.trial import TrialState

        for name, fact in facts.items():
            trial.set_user_attr(name, fact)
        trial.study.tell(trial, value, state=TrialState[state])

    def _return_lost(self, study: "Study") -> None:
        """Queue the trials of killed workers again."""
        for each in study.get_trials(deepcopy=False):
            if each.state.name == "RUNNING" and not held(self.folder.trial(each.number)):
                self.give_back(study, each.number, "its worker was killed")

    def _fresh(self, index: int) -> "Trial | None":
        """Ask for a trial whose values were not tried; None = every combination was."""
        study = load(self.folder, self.folder.settings().seed * 1_000_003 + index)
        while True:
            known = counted(study.get_trials(deepcopy=False))
            seen = [each.params for each in known]
            trial = study.ask({each.flag: each.distribution() for each in self.space})
            if trial.params not in seen:
                return trial
            self._end(trial, "FAIL", again=f"the same as trial {known[seen.index(trial.params)].number}")
            if (values := unseen(self.space, seen, index)) is None:
                return None
            study.enqueue_trial(values)
