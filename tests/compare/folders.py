"""Folders of made-up comparisons, as the runner writes them."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CPU = {"cpu": "AMD EPYC 7B13", "gpu": None, "cores": 2, "threads": 1, "host": "here"}
TIMES = {"Softmax": 40.0, "Local(window=8)": 32.0, "Entmax": 55.0, "Linear": 25.0}
LEVELS = {"Softmax": 0.900, "Local(window=8)": 0.897, "Entmax": 0.904, "Linear": 0.850}


def make(
    folder: Path,
    labels: Sequence[str] = tuple(LEVELS),
    seeds: int = 3,
    sets: int = 6,
    *,
    machines: Sequence[Mapping[str, Any]] = (CPU,),
    metric: str = "test/auroc",
    mode: str = "max",
    curves: bool = True,
    maps: bool = True,
    attempt: int = 1,
    task: str = "prior",
) -> Path:
    """Write a comparison whose every cell is done; seeds go to the machines in turn."""
    keys = [f"{at:02d}{seed:02d}" for at in range(len(labels)) for seed in range(seeds)]
    settings = {
        "command": "python -m tabattn.compare --config configs/prior.yaml --attention Softmax,Local --budget 500steps",
        "settings": {"config": "configs/prior.yaml", "seeds": seeds},
        "cells": keys,
        "budget": {"kind": "steps", "value": 500},
        "versions": {"tabattn": "0.9", "torch": "2.13.0", "commit": "abc123"},
        "task": task,
        "machine": CPU,
    }
    put(folder / "comparison.json", settings)
    for at, label in enumerate(labels):
        for seed in range(seeds):
            made = np.random.default_rng([at, seed])
            level, noise = LEVELS.get(label, 0.88), np.random.default_rng(seed).normal(0, 0.01)
            found = {
                f"set {number}": float(level + noise + made.normal(0, 0.002) + 0.02 * number / max(1, sets))
                for number in range(sets)
            }
            stage, name = metric.split("/")
            parts = {f"{stage}/{one}/{name}": value for one, value in found.items()}
            score = float(np.mean(list(found.values()))) if found else level + noise
            cell = folder / "cells" / keys[at * seeds + seed]
            put(cell / "cell.json", {"attention": label.partition("(")[0], "label": label, "seed": seed})
            result = {
                **{
                    "key": cell.name,
                    "task": task,
                    "attention": label.partition("(")[0],
                    "label": label,
                    "seed": seed,
                },
                **{"machine": machines[seed % len(machines)], "versions": settings["versions"], "steps": 500},
                **{"metric": metric, "mode": mode, "scores": {metric: score, "test/log_loss": 1 - score, **parts}},
                **{"parameters": 251_000 + at, "train_seconds": 20.0 + at, "peak_memory_mb": 310.0 + at},
            }
            if curves:
                result["curve"] = _curve(cell, attempt, score, TIMES.get(label, 40.0), made)
            if maps:
                result["maps"] = _maps(cell, attempt, at, made)
            put(cell / "result.json", result)
    rows = [
        {
            **{"attention": label, "step_ms": TIMES.get(label, 40.0), "step_ms_low": TIMES.get(label, 40.0) - 1},
            **{"step_ms_high": TIMES.get(label, 40.0) + 2, "attention_share": 0.3 - 0.05 * at, "rounds": 9},
            **{"memory_mb": 300.0 + 10 * at, "parameters": 251_000 + at},
        }
        for at, label in enumerate(labels)
    ]
    put(folder / "timing.json", {"machine": machines[0], "rows": rows})
    return folder


def put(path: Path, value: object) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def edit(path: Path, **changes: Any) -> None:
    """Change values of a JSON file."""
    put(path, {**json.loads(path.read_text()), **changes})


def fail(folder: Path, key: str, reason: str, attempt: int = 1) -> None:
    """Turn a cell into a failed one."""
    cell = folder / "cells" / key
    (cell / "result.json").unlink(missing_ok=True)
    put(cell / "attempts" / str(attempt) / "failure.json", {"reason": reason})


def rescore(folder: Path, key: str, score: float) -> None:
    """Give a cell another score."""
    path = folder / "cells" / key / "result.json"
    metric = json.loads(path.read_text())["metric"]
    edit(path, scores={metric: score})


def _curve(cell: Path, attempt: int, score: float, step_ms: float, made: np.random.Generator) -> str:
    name = f"attempts/{attempt}/curve.csv"
    path = cell / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "seconds", "loss", "score"])
        for step in range(0, 500, 5):
            loss = 0.4 + np.exp(-step / 100) + made.normal(0, 0.03)
            value = score - 0.3 * np.exp(-step / 120) if step % 50 == 45 else ""
            writer.writerow([step, (step + 1) * step_ms / 1000, loss, value])
    return name


def _maps(cell: Path, attempt: int, at: int, made: np.random.Generator) -> str:
    name = f"attempts/{attempt}/maps.npz"
    path = cell / name
    path.parent.mkdir(parents=True, exist_ok=True)
    logits = made.normal(size=(4, 24, 24)) * (at + 1)
    weights = np.exp(logits)
    weights[weights < at] = 0
    weights /= weights.sum(-1, keepdims=True).clip(1e-9)
    np.savez(path, **{f"network.layers.{layer}.rows.mechanism": weights.astype(np.float16) for layer in range(3)})
    return name
