"""Baselines and oracles that follow from the scores of a task, without its data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

ORACLE = "_oracle"
"""Ending of the scores of an oracle."""


def logged(task: str, scores: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Rows of baselines and oracles, means over the results of a comparison.

    Args:
        task: Name of the task.
        scores: Final metrics of each result.
    """
    names = dict.fromkeys(name for own in scores for name in own)
    means = {name: _mean([own[name] for own in scores if name in own]) for name in names}
    rows = []
    if best := {name.removesuffix(ORACLE): value for name, value in means.items() if name.endswith(ORACLE)}:
        rows.append({"name": "the process that made the data", "kind": "oracle", "scores": best})
    for name, found in BASELINES[task](means).items() if task in BASELINES else ():
        rows.append({"name": name, "kind": "baseline", "scores": found})
    return rows


def unigram(scores: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Scores of the frequency of each token."""
    found: dict[str, float] = {}
    for name, value in scores.items():
        stage, _, own = name.partition("/")
        if own == "unigram_perplexity" and value > 0:
            found |= {f"{stage}/perplexity": value, f"{stage}/loss": math.log(value)}
            loss, bits = scores.get(f"{stage}/loss"), scores.get(f"{stage}/bits_per_character")
            if loss and bits:
                found[f"{stage}/bits_per_character"] = bits * math.log(value) / loss
    return {"frequency of each token": found} if found else {}


def random_graph(scores: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Expected scores of a random graph that is as sparse as the predicted ones are on average."""
    found: dict[str, float] = {}
    for stage in ("val", "test"):
        sparsity, gold = scores.get(f"{stage}/sparsity"), scores.get(f"{stage}/gold_sparsity")
        if sparsity is None or gold is None:
            continue
        recall, precision = 1 - sparsity, 1 - gold
        both = recall + precision
        f1 = 2 * recall * precision / both if both else math.nan
        found |= {f"{stage}/recall": recall, f"{stage}/precision": precision, f"{stage}/f1": f1}
    return {"random graph of equal sparsity": found} if found else {}


def constant(scores: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Functional R2 of a network's mean output, which is 0 by definition."""
    names = [name for name in scores if name.partition("/")[2].startswith("functional_r2")]
    return {"mean output of each network": dict.fromkeys(names, 0.0)} if names else {}


BASELINES = {"mlm": unigram, "sparsity": random_graph, "zoo": constant}
"""Scores of baselines by name, of the mean scores of networks, by task."""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
