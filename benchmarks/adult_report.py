"""Report of ``benchmarks.adult`` in Markdown, with its pictures."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from benchmarks.measure import provenance
from benchmarks.plots import KINDS, markdown, plot_curves, plot_inference, read, summary
from benchmarks.protocols import PROTOCOLS
from datamodules.tables.real import RealTable
from tabattn.attention import MECHANISMS

REFERENCE = "Softmax"

LEARNT = 0.6
"""Least held-out ROC AUC at which flipped labels tell reading from memorisation."""

SEEN = """\
- **original**: the protocol of the original experiment, five folds over all rows of tasks that were trained on. Rows
  and labels of the training are scored: this measures memorisation of the table, not the accuracy on a new task.
- **held-out**: tasks of rows that no training task has.
- **flipped**: the held-out tasks with reversed labels of their context rows. A method that reads these labels scores
  one minus its held-out score; one that has memorised the table scores as before.
"""


def write(options: argparse.Namespace, table: RealTable, results: pd.DataFrame, times: pd.DataFrame) -> str:
    """Write report, numbers and pictures; return the report.

    Args:
        options: The command line.
        table: The table.
        results: One row for each method and seed: method, seed, a score for each protocol, steps, seconds, step
            seconds, peak MB.
        times: One row for each attention and number of rows: attention, rows, milliseconds.
    """
    paths = [options.runs / name / f"seed_{seed}" for name in options.attentions for seed in range(options.seeds)]
    histories = read([folder / "history.csv" for folder in paths])
    names = list(dict.fromkeys(results["method"]))
    classical = [name for name in names if name not in MECHANISMS]
    means = results.groupby("method")["held-out"].mean()
    levels = {f"{name}, held-out": float(means[name]) for name in classical}
    for name, kind in KINDS.items():
        plot_curves(histories, kind, options.out / f"{name}.png", levels if kind.y == "ROC AUC" else None)
    plot_inference(times, options.out / "inference.png")
    text = (
        "# Comparison of attentions on one table\n\n"
        + _origin(options, table)
        + "\n## Three scores\n\nMean ROC AUC over tasks; mean and standard deviation over "
        + f"{_seeds(options.seeds)}.\n\n{markdown(_scores(results, names))}\n{SEEN}"
        + f"\n## Reading or memorisation, and noise\n\n{_reading(results)}\n\n{_noise(results, options)}\n"
        + "\n## Time and memory\n\n"
        + markdown(summary(histories))
        + f"\n{_costs(options)}"
        + _pictures(options)
    )
    options.out.with_suffix(".md").write_text(text)
    results.to_csv(options.out.with_suffix(".csv"), index=False, float_format="%.6g")
    return text


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _origin(options: argparse.Namespace, table: RealTable) -> str:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = " computed by the process" if options.cpu_time else ""
    budget = f"{options.seconds:g} s of training{kind}" if options.steps is None else f"{options.steps} steps"
    outside = [name for name in options.attentions if MECHANISMS[name].cross]
    labels = "each task numbers the classes anew" if options.honest else "all tasks number the classes alike"
    further = f" Further arguments: `{' '.join(options.further)}`." if options.further else ""
    return (
        f"Written by `python -m benchmarks.adult` on {provenance(device)}. Table {table.name}: {len(table.y)} rows, "
        f"{table.x.shape[1]} features, {len(table.classes)} classes (SHA-256 {table.provenance['sha256'][:12]}).\n\n"
        "The network of nanoTabPFN's attention fork in its sizes (`configs/experiments/adult.yaml`), trained with "
        f"each attention between context rows for {budget}, with {_seeds(options.seeds)}; {labels}. A seed decides the "
        "split of the rows, the tasks and the starting weights, and these are the same for all attentions; so are the "
        "projections, the optimizer and the dropout (none). Target rows look at context rows by the same attention "
        f"where it can answer them ({', '.join(outside)}), else by Softmax. In the last of the layers only target rows "
        "ask. Weights are those of the last step; no checkpoint was chosen by a score. The classical methods are "
        f"fitted to the context rows of each task, all columns as numbers.{further}\n"
    )


def _scores(results: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    lines = []
    for name in names:
        own = results[results["method"] == name]
        line: dict[str, Any] = {"method": name} | {protocol: _spread(own[protocol]) for protocol in PROTOCOLS}
        told = name in MECHANISMS and name != REFERENCE
        line[f"held-out less {REFERENCE}"] = _spread(_differences(results, name), "+") if told else ""
        lines.append(line)
    return pd.DataFrame(lines)


def _spread(values: "pd.Series[float]", sign: str = "") -> str:
    deviation = f" ± {values.std():.3f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.3f}{deviation}"


def _differences(results: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Difference of the held-out score from the reference's, by seed."""
    by_seed = results.pivot(index="seed", columns="method", values="held-out")
    return by_seed[name] - by_seed[REFERENCE]


def _reading(results: pd.DataFrame) -> str:
    means = results[results["method"].isin(list(MECHANISMS))].groupby("method", sort=False)[list(PROTOCOLS)].mean()
    learnt = means[means["held-out"] >= LEARNT]
    text = (
        "Flipped labels change the held-out score a of a network that reads its context into 1 - a; a network that has "
        "memorised the table keeps a. "
    )
    if len(learnt):
        shares = (learnt["held-out"] - learnt["flipped"]) / (2 * learnt["held-out"] - 1)
        listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        text += f"From memorising (0%) to reading (100%): {listed}."
    if rest := [str(name) for name in means.index if name not in learnt.index]:
        text += f" Held-out scores below {LEARNT} are too low to tell: {', '.join(rest)}."
    return text


def _noise(results: pd.DataFrame, options: argparse.Namespace) -> str:
    others = [name for name in options.attentions if name != REFERENCE]
    if options.seeds < 2 or not others:
        return "With one seed there is no standard deviation, so no difference between two attentions can be tested."
    factor = student.ppf(0.975, options.seeds - 1) / np.sqrt(options.seeds)
    differences = {name: _differences(results, name) for name in others}
    told = [name for name, found in differences.items() if abs(found.mean()) > factor * found.std()]
    verdict = f"That holds for {', '.join(told)}" if told else "That holds for none of them"
    text = (
        f"Differences from {REFERENCE} are paired by seed. With {_seeds(options.seeds)} a difference is significant "
        f"(95 %, Student) if its mean is more than {factor:.2f} times its standard deviation. {verdict}; each of the "
        f"{len(others)} comparisons passes by chance with probability 0.05, so a difference that barely passes is no "
        "evidence."
    )
    if "Scratch" in differences:
        text += (
            f" Scratch computes the same function as {REFERENCE}, so its difference, "
            f"{_spread(differences['Scratch'], '+')}, is a sample of the noise "
            "(rounding, and another number of steps in the same time)."
        )
    return text


def _costs(options: argparse.Namespace) -> str:
    return (
        "A step lasts from the end of the one before: it includes the cutting of its tasks, but no validation. Other "
        "load of the machine affects it, so medians are more reliable. Memory is that beyond the memory before the "
        "run; on a CPU it is resident memory, which includes free blocks that the allocator keeps. Inference: tables "
        f"of 80 % context, {options.tables} in a batch, 13 features, median of {options.repeats}.\n"
    )


def _pictures(options: argparse.Namespace) -> str:
    titles = {
        "loss_step": "Train loss against steps",
        "loss_time": "Train loss against training time",
        "auc_step": "ROC AUC of validation (held-out rows) against steps",
        "auc_time": "ROC AUC of validation (held-out rows) against training time",
        "inference": "Inference time against rows",
    }
    band = "Lines are means over seeds, bands one standard deviation on either side."
    links = [f"\n{title}\n\n![{title}]({options.out.name}/{name}.png)\n" for name, title in titles.items()]
    return f"\n## Pictures\n\n{band}\n" + "".join(links)
