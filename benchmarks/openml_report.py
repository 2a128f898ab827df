"""Report of ``benchmarks.openml`` in Markdown."""

from collections.abc import Sequence

import pandas as pd

OURS = "TabularClassifier"


def report(scores: pd.DataFrame, origin: str, protocol: str) -> str:
    """Report with a summary, pairwise comparisons, and every table.

    Args:
        scores: One row for each table and method: table, rows, features, classes, method, auc, accuracy, log_loss,
            seconds.
        origin: Sentence on machine and commit.
        protocol: Sentences on the protocol.
    """
    auc = scores.pivot(index="table", columns="method", values="auc")
    methods = list(dict.fromkeys(scores["method"]))
    return (
        "# TabularClassifier and classical methods on OpenML tables\n\n"
        f"{origin}\n\n{protocol}\n\n## Summary of {len(auc)} tables\n\n"
        + _summary(scores, auc, methods)
        + (f"\n## {OURS} against each method\n\n" + _duels(auc, methods) if len(methods) > 1 else "")
        + "\n## ROC AUC of each table\n\n"
        + _each(scores, auc, methods)
    )


def _summary(scores: pd.DataFrame, auc: pd.DataFrame, methods: list[str]) -> str:
    means = scores.groupby("method")[["auc", "accuracy", "log_loss"]].mean()
    seconds = scores.groupby("method")["seconds"].sum()
    ranks = auc.rank(axis=1, ascending=False).mean()
    rows = [["method", "mean ROC AUC", "mean rank", "mean accuracy", "mean log-loss", "CPU seconds in all"]]
    for name in methods:
        entry = means.loc[name]
        figures = f"{entry.auc:.4f}", f"{ranks[name]:.2f}", f"{entry.accuracy:.4f}", f"{entry.log_loss:.4f}"
        rows.append([name, *figures, f"{seconds[name]:.1f}"])
    return _table(rows)


def _duels(auc: pd.DataFrame, methods: list[str]) -> str:
    rows = [["against", "wins", "ties", "losses", "mean difference of ROC AUC"]]
    for name in methods:
        if name != OURS:
            difference = auc[OURS] - auc[name]
            # Scores that are equal in the three digits shown count as a tie.
            near = difference.abs() < 5e-4
            won, lost = int((difference[~near] > 0).sum()), int((difference[~near] < 0).sum())
            rows.append([name, str(won), str(int(near.sum())), str(lost), f"{difference.mean():+.4f}"])
    return _table(rows)


def _each(scores: pd.DataFrame, auc: pd.DataFrame, methods: list[str]) -> str:
    sizes = scores.drop_duplicates("table").set_index("table")
    rows = [["table", "rows", "features", "classes", *methods]]
    for name, size in sizes.iterrows():
        best = auc.loc[name].max()
        figures = [f"**{value:.3f}**" if value == best else f"{value:.3f}" for value in auc.loc[name, methods]]
        rows.append([str(name), *(str(size[key]) for key in ("rows", "features", "classes")), *figures])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, marks, *body))
