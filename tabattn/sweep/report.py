"""Results of a sweep: ``trials.csv``, ``best.yaml``, ``sweep.png``, and a table for the terminal."""

import contextlib
import csv
import io
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from tabattn.storage.files import write_file
from tabattn.sweep.folder import Folder
from tabattn.sweep.study import counted, load

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

SHOWN = 10
"""Most rows of the table on the terminal."""

ENOUGH = 4
"""Fewest complete trials of which the importance of the flags is estimated."""

FACTS = ("best", "step", "steps", "seconds", "reason")
"""Facts of a trial, besides its number, state and values."""

STATES = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "running"}


def write(folder: Folder) -> str:
    """Write the results; return the text for the terminal."""
    study = load(folder)
    trials = counted(study.get_trials(deepcopy=False))
    write_file(folder.path / "trials.csv", _table(trials).encode())
    _picture(folder, study, trials)
    complete = [each for each in trials if each.value is not None and each.state.name == "COMPLETE"]
    if not complete:
        return "no trial is complete"
    best = study.best_trial
    write_file(folder.path / "best.yaml", _configuration(folder, best).encode())
    lines = [*_rows(folder, complete), _counts(trials)]
    return "\n".join([*lines, f"best: trial {best.number}, {folder.path / 'best.yaml'}"])


def _table(trials: "Sequence[FrozenTrial]") -> str:
    """Return all trials as CSV."""
    flags = list(dict.fromkeys(flag for each in trials for flag in each.params))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", *FACTS, *flags])
    for each in trials:
        facts = [each.user_attrs.get(name, "") for name in FACTS]
        writer.writerow([each.number, STATES[each.state.name], *facts, *(each.params.get(flag, "") for flag in flags)])
    return text.getvalue()


def _configuration(folder: Folder, best: "FrozenTrial") -> str:
    """Configuration of the best trial's run, for ``train.py``."""
    settings, run = folder.settings(), folder.trial(best.number) / "run"
    content = yaml.safe_load((run / "config.yaml").read_text())
    for part in ("run", "ckpt_path", "weights_only"):
        content.pop(part, None)
    head = [
        f"Best of a sweep: {settings.metric} {best.value:.6g} after {best.user_attrs['step']} of "
        f"{best.user_attrs['steps']} steps, by",
        *(f"  {flag} = {value}" for flag, value in best.params.items()),
        f"The other flags: {shlex.join(settings.flags)}",
        "Train again:  python train.py fit --config best.yaml",
        "For longer:   python train.py fit --config best.yaml --trainer.max_steps=...",
    ]
    return "".join(f"# {each}\n" for each in head) + yaml.safe_dump(content, sort_keys=False)


def _rows(folder: Folder, complete: "Sequence[FrozenTrial]") -> list[str]:
    """Table of the best trials."""
    settings = folder.settings()
    ordered = sorted(complete, key=lambda each: each.value or 0.0, reverse=settings.mode == "max")
    flags = list(ordered[0].params)
    head = ["trial", settings.metric, "seconds", *flags]
    cells = [
        [str(each.number), f"{each.value:.5g}", f"{each.user_attrs.get('seconds', 0):.0f}"]
        + [short(each.params[flag]) for flag in flags]
        for each in ordered[:SHOWN]
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *cells]]


def _counts(trials: "Sequence[FrozenTrial]") -> str:
    """Count the trials by state, and name the reason of the last failure."""
    names = [STATES[each.state.name] for each in trials]
    text = f"{len(trials)} trials: " + ", ".join(
        f"{names.count(name)} {name}" for name in STATES.values() if name in names
    )
    reasons = [f"trial {each.number}: {each.user_attrs['reason']}" for each in trials if "reason" in each.user_attrs]
    return f"{text}\nlast failure: {reasons[-1]}" if reasons else text


def short(value: Any) -> str:
    """Format the value of a flag."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _picture(folder: Folder, study: "Study", trials: "Sequence[FrozenTrial]") -> None:
    """Draw the scores in the order of the trials, and the importance of each flag."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scored = [each for each in trials if "best" in each.user_attrs]
    if not scored:
        return
    settings = folder.settings()
    better = max if settings.mode == "max" else min
    importance = _importance(study)
    figure = Figure(figsize=(9, 3.5) if importance else (5.5, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    history, *others = figure.subplots(1, 2 if importance else 1, squeeze=False)[0]
    for name, mark in (("complete", "o"), ("stopped", "x")):
        some = [each for each in scored if STATES[each.state.name] == name]
        history.scatter(
            [each.number for each in some], [each.user_attrs["best"] for each in some], marker=mark, label=name
        )
    best = [better(each.user_attrs["best"] for each in scored[: number + 1]) for number in range(len(scored))]
    history.step([each.number for each in scored], best, where="post", color="gray", label="best so far")
    history.set(xlabel="trial", ylabel=settings.metric)
    history.legend()
    for axes in others:
        axes.barh(list(importance)[::-1], list(importance.values())[::-1])
        axes.set(xlabel="importance (functional ANOVA)", xlim=(0, 1))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_file(folder.path / "sweep.png", content.getbuffer())


def _importance(study: "Study") -> dict[str, float]:
    """Importance of each flag for the score; empty if there are too few complete trials, or one flag."""
    from optuna.importance import get_param_importances

    complete = [each for each in study.get_trials(deepcopy=False) if each.state.name == "COMPLETE"]
    if len(complete) < ENOUGH or len({each.value for each in complete}) < 2 or len(complete[0].params) < 2:
        return {}
    with contextlib.suppress(RuntimeError):
        return get_param_importances(study)
    return {}
