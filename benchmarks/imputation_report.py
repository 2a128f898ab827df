"""Report of ``benchmarks.imputation`` in Markdown."""

from collections.abc import Sequence

import pandas as pd

OURS = "TabularImputer"
BASELINE = "mean or mode"
CONTROL = "control"
MEASURES = {"nrmse": "normalised RMSE", "error": "error of categories"}


def report(found: pd.DataFrame, origin: str, protocol: str) -> str:
    """Report with a summary, comparisons, the control, and every table.

    Args:
        found: One row for each table, mechanism, rate and method: table, mechanism, rate, method, rows, columns, nrmse,
            error, seconds.
        origin: Sentence on machine and commit.
        protocol: Sentences on the protocol.
    """
    real = found[found["mechanism"] != CONTROL]
    methods = list(dict.fromkeys(found["method"]))
    cases = real[["table", "mechanism", "rate"]].drop_duplicates()
    return (
        "# TabularImputer and other imputers\n\n"
        f"{origin}\n\n{protocol}\n\n## Summary of {len(cases)} cases on {real['table'].nunique()} tables\n\n"
        + _summary(real, methods)
        + "\n## By mechanism and rate\n\n"
        + "".join(_by_case(real, methods, measure) for measure in MEASURES)
        + f"## {OURS} against each method\n\n"
        + _duels(real, methods)
        + _control(found[found["mechanism"] == CONTROL], methods)
        + "\n## By table\n\n"
        + "".join(_by_table(real, methods, measure) for measure in MEASURES)
    )


def _wide(found: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure of each case, a column for each method; cases that a method lacks are left out."""
    return found.pivot_table(index=["table", "mechanism", "rate"], columns="method", values=measure).dropna()


def _summary(found: pd.DataFrame, methods: list[str]) -> str:
    ranks = pd.concat([_wide(found, measure).rank(axis=1) for measure in MEASURES]).mean()
    means = {measure: _wide(found, measure).mean() for measure in MEASURES}
    seconds = found.groupby("method")["seconds"].mean()
    rows = [["method", "mean rank", *(f"mean {name}" for name in MEASURES.values()), "seconds a case"]]
    for name in methods:
        figures = [f"{means[measure].get(name, float('nan')):.4f}" for measure in MEASURES]
        rows.append([name, f"{ranks[name]:.2f}", *figures, f"{seconds[name]:.1f}"])
    return _table(rows)


def _by_case(found: pd.DataFrame, methods: list[str], measure: str) -> str:
    wide = _wide(found, measure)
    if wide.empty:
        return ""
    means = wide.groupby(level=["mechanism", "rate"])[methods].mean()
    rows = [[MEASURES[measure], *methods]]
    rows += [[f"{mechanism} {rate:.0%}", *_best(line)] for (mechanism, rate), line in means.iterrows()]
    return _table(rows) + "\n"


def _by_table(found: pd.DataFrame, methods: list[str], measure: str) -> str:
    wide = _wide(found, measure)
    if wide.empty:
        return ""
    sizes = found.drop_duplicates("table").set_index("table")
    rows = [[MEASURES[measure], "rows", "columns", *methods]]
    for name, line in wide.groupby(level="table")[methods].mean().iterrows():
        rows.append([str(name), *(str(sizes.loc[name, part]) for part in ("rows", "columns")), *_best(line)])
    return _table(rows) + "\n"


def _duels(found: pd.DataFrame, methods: list[str]) -> str:
    rows = [["against", *(f"{name}: wins, losses, mean difference" for name in MEASURES.values())]]
    for name in methods:
        if name == OURS or OURS not in methods:
            continue
        parts = []
        for measure in MEASURES:
            wide = _wide(found, measure)
            difference = wide[OURS] - wide[name]
            won, lost = int((difference < 0).sum()), int((difference > 0).sum())
            parts.append(f"{won}, {lost}, {difference.mean():+.4f}" if len(wide) else "none")
        rows.append([name, *parts])
    return _table(rows)


def _control(found: pd.DataFrame, methods: list[str]) -> str:
    """Errors where no cell says anything about another, as multiples of those of means and modes."""
    if found.empty:
        return ""
    rows = [["method", *(f"{name}, of that of {BASELINE}" for name in MEASURES.values())]]
    for name in methods:
        parts = []
        for measure in MEASURES:
            wide = _wide(found, measure)
            ratios = wide[name] / wide[BASELINE]
            parts.append(f"{ratios.mean():.3f} ({ratios.min():.3f} to {ratios.max():.3f})" if len(wide) else "none")
        rows.append([name, *parts])
    words = "Columns shuffled independently, so that a cell says nothing about another: nothing can be below 1."
    return f"\n## Control\n\n{words}\n\n{_table(rows)}"


def _best(line: pd.Series) -> list[str]:
    return [f"**{value:.3f}**" if value == line.min() else f"{value:.3f}" for value in line]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, marks, *body))
