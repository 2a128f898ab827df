"""Plan of a comparison: its settings, the cells they describe, and the steps that each may train."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule

from tabattn.attention import MECHANISMS
from tabattn.attention.choice import as_factory
from tabattn.compare import cells, machine
from tabattn.compare.cells import Cell, choices, flags
from tabattn.compare.evaluation import mode_of
from tabattn.compare.store import Store
from tabattn.storage import provenance, trusted

ATTENTION = "model.attention"
"""Argument that is varied by ``--attention``."""

BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(steps?|s|min|h)")
UNITS = {"s": 1, "min": 60, "h": 3600}

FIXED = ("config", "flags", "budget", "vary")
"""Settings that all cells of a folder share."""


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison, as given.

    Args:
        config: Configurations.
        choices: What is compared, with options.
        seeds: Number of seeds, from 0.
        budget: ``kind`` (``steps`` or ``seconds``) and ``value``.
        flags: Further flags of ``train.py``.
        vary: Argument that the choices are values of.
        metric: Final metric; None = that of the configuration.
        folder: Folder that relative paths start from.
        threads: Threads of each cell.
    """

    config: tuple[str, ...]
    choices: tuple[str, ...]
    seeds: int
    budget: Mapping[str, Any]
    flags: tuple[str, ...] = ()
    vary: str = ATTENTION
    metric: str | None = None
    folder: str = field(default_factory=lambda: str(Path.cwd()))
    threads: int = 1

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "Settings":
        """Settings from a file."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        return cls(**plain)

    def joined(self, earlier: "Settings", folder: Path) -> "Settings":
        """Add these settings to those of a folder.

        Raises:
            ValueError: The folder's cells have another configuration, other flags or another budget.
        """
        for name in FIXED:
            ours, theirs = getattr(self, name), getattr(earlier, name)
            if ours != theirs:
                shown = [_shown(name, value) for value in (theirs, ours)]
                raise ValueError(
                    f"--out: {folder} holds a comparison with {shown[0]}, not {shown[1]}: choose another folder"
                )
        both = tuple(dict.fromkeys((*earlier.choices, *self.choices)))
        metric = self.metric or earlier.metric
        return replace(self, choices=both, seeds=max(self.seeds, earlier.seeds), metric=metric, threads=earlier.threads)

    @property
    def plain(self) -> dict[str, Any]:
        """Settings as plain values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _shown(name: str, value: Any) -> str:
    if name == "budget":
        return f"--budget {value['value']:g}{'steps' if value['kind'] == 'steps' else 's'}"
    if name == "flags":
        return f"the flags {' '.join(value)}" if value else "no further flags"
    return f"--{name} {value if isinstance(value, str) else ' --config '.join(value)}"


def budget_of(text: str) -> dict[str, Any]:
    """Budget of a text such as ``500steps``, ``120s`` or ``2min``.

    Raises:
        ValueError: It is none.
    """
    found = BUDGET.fullmatch(text.strip())
    if not found or not float(found[1]) > 0 or (found[2].startswith("step") and "." in found[1]):
        raise ValueError(
            f"--budget must be a number of steps or a time above 0, as 500steps, 120s or 2min, got {text!r}"
        )
    if found[2].startswith("step"):
        return {"kind": "steps", "value": int(found[1])}
    return {"kind": "seconds", "value": float(found[1]) * UNITS[found[2]]}


def mechanisms(text: str) -> tuple[str, ...]:
    """Mechanisms of a list, with their options; ``all`` is the whole registry.

    Raises:
        ValueError: One is no mechanism.
    """
    if text.strip() == "all":
        return tuple(MECHANISMS)
    named = choices(text)
    for each in named:
        name, _ = flags(ATTENTION, each)
        if "." not in name:
            as_factory(name, "--attention")
    return named_once(named, "--attention")


def named_once(named: Sequence[str], flag: str) -> tuple[str, ...]:
    """Check that a list names at least one, and each once.

    Raises:
        ValueError: It does not.
    """
    if not all(named) or len(set(named)) < len(named):
        raise ValueError(f"{flag} must name each choice once, separated by commas, got {','.join(named)!r}")
    return tuple(named)


def cells_of(settings: Settings) -> list[Cell]:
    """Cells of a comparison, seed by seed, so that a part of them compares all choices.

    Raises:
        ValueError: A configuration or a flag is wrong.
    """
    base = [f"--config={each}" for each in settings.config] + list(settings.flags)
    _parsed(base)
    found = []
    for choice in settings.choices:
        name, own = flags(settings.vary, choice)
        parsed = _parsed([*base, *own])
        found.append((name, choice, (*base, *own), parsed.plain, parsed.refusal))
    code, data = cells.code_version(), cells.data_of(found[0][3])
    return [
        Cell(
            name,
            choice,
            seed,
            (*arguments, *cells.training_seed(config, seed), f"--seed_everything={seed}"),
            config,
            cells.key_of(config, code, data, seed, settings.budget),
            refusal,
        )
        for seed in range(settings.seeds)
        for name, choice, arguments, config, refusal in found
    ]


def _parsed(arguments: Sequence[str]) -> cells.Resolved:
    parsed, problem = cells.resolved(arguments)
    if parsed is None:
        raise ValueError(problem)
    return parsed


def task_of(config: Mapping[str, Any]) -> str:
    """Name of the task of a configuration."""
    kind = trusted.resolve(config["model"]["class_path"], LightningModule)
    return str(getattr(kind, "task_name", kind.__name__))


def write(store: Store, settings: Settings, planned: Sequence[Cell], steps: Mapping[str, int], command: str) -> None:
    """Write the settings of a comparison and the descriptions of its cells."""
    code, data = cells.code_version(), cells.data_of(planned[0].config)
    versions = {**provenance.versions(), **(provenance.git_state() or {}), "code": code}
    task = task_of(planned[0].config)
    for cell in planned:
        store.add(
            cell.key,
            {
                **{"key": cell.key, "task": task, "attention": cell.attention, "label": cell.label},
                **{"seed": cell.seed, "arguments": list(cell.arguments), "config": cell.config},
                **{"steps": steps.get(cell.label), "versions": versions, "data": data},
                "refusal": cell.refusal,
            },
        )
    store.write_comparison(
        {
            **{"command": command, "settings": settings.plain, "task": task, **metric_of(settings, planned[0].config)},
            **{"budget": settings.budget, "steps": dict(steps), "threads": settings.threads, "folder": settings.folder},
            **{"cells": [cell.key for cell in planned], "versions": versions, "written": time.time()},
            "fresh": cells.fresh(planned[0].config),
            "machine": machine.described(settings.threads, gpu(planned[0].config)),
        }
    )


def metric_of(settings: Settings, config: Mapping[str, Any]) -> dict[str, str | None]:
    """``metric`` and ``mode`` of ``--metric``; None where the results decide."""
    if settings.metric is None:
        return {"metric": None, "mode": None}
    monitored = config.get("checkpoint") or {}
    name, _, mode = settings.metric.partition(":")
    same = (monitored.get("monitor") or "").rpartition("/")[2] == name.rpartition("/")[2]
    return {"metric": name, "mode": mode or (monitored["mode"] if same else mode_of(name))}


def gpu(config: Mapping[str, Any]) -> bool:
    """Whether the cells of a configuration run on a CUDA device."""
    asked = (config.get("trainer") or {}).get("accelerator")
    return asked in ("auto", "gpu", "cuda") and bool(machine.gpus())
