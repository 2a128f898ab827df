"""Numbers and conclusions of a comparison in words."""

import math
from collections.abc import Sequence

from tabattn.compare.report.frame import Comparison
from tabattn.compare.report.lines import Group, Line
from tabattn.compare.report.statistics import Estimate, student_bound

VARIED = (
    "A seed sets the initial weights and the training batches: other data where they are synthetic, another order and "
    "other hidden cells where they are real. Splits, validation and test data are the same for all, so standard errors "
    "do not tell how much other test data would change."
)
"""What a seed varies, and what it does not."""

ALIKE = "A seed sets the initial weights alone: standard errors do not tell how much other data would change."
"""The same where the datamodule takes no seed of the training batches alone."""

NONE = "-"
"""Text of a number that is not there."""


def shown(value: float, digits: int = 4) -> str:
    """A number with ``digits`` significant digits; a dash for NaN."""
    if math.isnan(value):
        return NONE
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 8)}f}"


def places_of(estimates: Sequence[Estimate], most: int = 4) -> int:
    """Decimals that show the smallest standard error with two digits, at most ``most``; four without errors."""
    errors = [one.error for one in estimates if math.isfinite(one.error) and one.error > 0]
    means = [abs(one.mean) for one in estimates if math.isfinite(one.mean) and one.mean != 0]
    if errors:
        return min(max(0, 1 - math.floor(math.log10(min(errors)))), max(2, most - _magnitude(means)))
    return max(0, 4 - _magnitude(means))


def _magnitude(values: Sequence[float]) -> int:
    return max(0, math.floor(math.log10(max(values)))) if values else 0


def with_error(one: Estimate, places: int, *, signed: bool = False) -> str:
    """A mean ± its standard error; without the latter for one seed."""
    if math.isnan(one.mean):
        return NONE
    mean = f"{one.mean:{'+' if signed else ''},.{places}f}"
    return mean if math.isnan(one.error) else f"{mean} ± {one.error:,.{places}f}"


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def direction(comparison: Comparison) -> str:
    """Whether more of the metric is better."""
    return "higher is better" if comparison.mode == "max" else "lower is better"


def question(comparison: Comparison) -> str:
    """The question that the comparison answers."""
    budget = comparison.settings.get("budget") or {}
    words = {"steps": "{:g} training steps each", "seconds": "{:g} seconds of training each"}
    told = words.get(str(budget.get("kind")))
    given = f" with {told.format(budget['value'])}" if told and "value" in budget else ""
    where = f" on {comparison.task}" if comparison.task else ""
    return f"Which {comparison.compared} gives the best {comparison.metric} ({direction(comparison)}){where}{given}?"


def answers(comparison: Comparison, group: Group) -> list[str]:
    """What the group of rows says, and what it cannot say, a sentence each."""
    if group.best is None:
        return ["No cell has a score yet."]
    best = group.line(group.best)
    places = places_of([line.quality for line in group.lines])
    count = best.quality.seeds
    seeds = "one seed" if count == 1 else f"{count} seeds"
    found = [f"Best quality: {best.label} ({with_error(best.quality, places)} over {seeds})."]
    others = [*group.alike, *group.worse]
    if count == 1 and others:
        found.append("With one seed, no difference can be told from chance.")
    elif group.alike:
        found.append(f"Not distinguishable from it with these seeds: {listed(group.alike)}.")
    if group.worse:
        found.append(f"Distinguishably worse: {listed(group.worse)}.")
    if group.fastest is not None:
        found.append(_fastest(group, group.line(group.fastest)))
    found += _against_baselines(comparison, best)
    return found


def _fastest(group: Group, line: Line) -> str:
    told = f"Fastest within the noise of the best: {line.label} ({shown(line.timing.step_ms, 3)} ms a step"
    if line.label == group.reference or math.isnan(line.speed_up):
        return f"{told})."
    if line.speed_up < 1:
        return f"{told}, {shown(1 / line.speed_up, 3)} times the step of {group.reference})."
    return f"{told}, {shown(line.speed_up, 3)} times as fast as {group.reference})."


def _against_baselines(comparison: Comparison, best: Line) -> list[str]:
    """Whether the best simple baseline is better than the best attention, and the distance to the oracle."""
    sign, what = comparison.sign, comparison.compared
    found = []
    scored = [one for one in comparison.baselines if math.isfinite(one.score)]
    if simple := [one for one in scored if one.kind == "baseline"]:
        top = max(simple, key=lambda one: sign * one.score)
        ahead = sign * (top.score - best.quality.mean) > 0
        words = f"is better than every {what} here" if ahead else f"is worse than the best {what}"
        found.append(f"The best simple baseline, {top.name} ({shown(top.score)}), {words}.")
    for one in scored:
        if one.kind == "oracle":
            gap = shown(abs(one.score - best.quality.mean), 3)
            found.append(f"The exact oracle reaches {shown(one.score)}: the best {what} is {gap} from it.")
    return found


def cautions(comparison: Comparison, group: Group) -> list[str]:
    """How far the numbers carry: seeds, unfinished cells, and the most that a faster attention can gain."""
    counts = [line.quality.seeds for line in group.lines if line.quality.seeds]
    found = [_about_seeds(min(counts), max(counts), bool(comparison.settings.get("fresh")))] if len(counts) > 1 else []
    if failed := sum(len(line.failures) for line in group.lines):
        found.append(f"{failed} of {len(group.cells)} cells failed; means are over the seeds that did not.")
    if waiting := sum(line.waiting for line in group.lines):
        found.append(f"{waiting} of {len(group.cells)} cells are not done: this table is preliminary.")
    share = group.line(group.reference).timing.share
    if 0 < share < 1:
        found.append(
            f"Attention is {share:.0%} of a step of {group.reference}: no other can make the step more than "
            f"{shown(1 / (1 - share), 3)} times as fast (Amdahl's law)."
        )
    return found


def _about_seeds(fewest: int, most: int, fresh: bool) -> str:
    if most == 1:
        return "One seed says nothing about chance: two give a standard error, and about ten a reliable one."
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    bounds = _bound(most) if fewest == most else f"{_bound(most)} to {_bound(fewest)}"
    more = "" if fewest >= 10 else f"; ten seeds would need {_bound(10)}"
    return (
        f"With {seeds}, one difference is significant at 5 % where it exceeds {bounds} standard errors "
        f"(Student's t, paired by seed){more}. Comparisons with the best are corrected by Holm's procedure. "
        f"{VARIED if fresh else ALIKE}"
    )


def _bound(seeds: int) -> str:
    bound = student_bound(seeds)
    return "any number of" if math.isinf(bound) else shown(bound, 2)
