"""``python -m benchmarks.attention``: time and peak memory of every mechanism against length, as ratios to Softmax.

``--references`` measures the kernels of others beside them. With ``--deadline`` the program ends in about so many
seconds: what would take longer, by the growth of its cost so far, is left out and named. The report is written after
each length.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.attention_report import REFERENCE, Cost, Costs, report
from benchmarks.measure import median_seconds, peak_bytes, seconds_of
from benchmarks.references import REFERENCES
from benchmarks.reports import add_out, check_device, check_least, check_positive, publish
from tabattn.attention import MECHANISMS

NO_MEMORY, NO_TIME = "out of memory", "no time"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Passes(NamedTuple):
    """What is timed of one mechanism at one length.

    Attributes:
        forward: A forward pass that keeps what the backward pass needs.
        both: A forward and a backward pass.
    """

    forward: Callable[[], Tensor]
    both: Callable[[], tuple[Tensor, ...]]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--mechanisms", nargs="+", default=list(MECHANISMS), choices=list(MECHANISMS), metavar="NAME")
    parser.add_argument("--references", nargs="*", default=[], choices=list(REFERENCES), metavar="NAME")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each, of which the median counts")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of q, k, v; half ones by autocast")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which one is timed no further")
    parser.add_argument("--deadline", type=float, default=math.inf, help="seconds for everything")
    add_out(parser, "attention.md")
    options = parser.parse_args(argv)
    check_least(parser, options, batch=1, heads=1, head_dim=1, repeats=1, lengths=1)
    check_positive(parser, options, "budget", "deadline")
    check_device(parser, options.device)
    options.lengths = sorted(set(options.lengths))
    options.mechanisms = [name for name in MECHANISMS if name in {REFERENCE, *options.mechanisms}]
    return options


def passes(name: str, length: int, options: argparse.Namespace) -> Passes:
    """Build the passes of a mechanism with its default arguments, or of a reference, on random numbers."""
    torch.manual_seed(0)
    device, dtype = options.device, DTYPES[options.dtype]
    size = (options.batch, options.heads, length, options.head_dim)
    q, k, v = (torch.randn(size, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(size, device=device, dtype=dtype)
    inputs: list[Tensor] = [q, k, v]
    attend: Callable[..., Tensor]
    if name in MECHANISMS:
        attend = mechanism = MECHANISMS[name](options.heads, options.head_dim).to(device)
        inputs += mechanism.parameters()
        half = dtype != torch.float32
    else:
        attend, half = REFERENCES[name].build(length, device), False

    def forward() -> Tensor:
        # As in training: parameters stay in float32, and autocast decides what is computed in half precision.
        with torch.autocast(device.type, dtype if half else None, enabled=half):
            return attend(q, k, v)

    def both() -> tuple[Tensor, ...]:
        out = forward()
        return torch.autograd.grad(out, inputs, gradient.to(out.dtype), allow_unused=True)

    return Passes(forward, both)


def differences(options: argparse.Namespace) -> dict[str, float]:
    """How far each reference is from the mechanism that computes the same, at the smallest length.

    Returns:
        ``|theirs - ours| / |ours|`` over outputs and gradients together; NaN for references that do not run here.
    """
    found = {}
    for name in options.references:
        try:
            theirs, ours = (_results(each, options) for each in (name, REFERENCES[name].equals))
            found[name] = float((theirs - ours).norm() / ours.norm())
        except Exception:  # The measurement says what is the matter.
            found[name] = math.nan
    return found


def _results(name: str, options: argparse.Namespace) -> Tensor:
    """Return outputs and gradients to q, k and v on the numbers that all are given."""
    made = passes(name, options.lengths[0], options)
    return torch.cat([part.detach().double().flatten() for part in (made.forward(), *made.both()[:3])])


def measure(options: argparse.Namespace) -> Iterator[dict[str, list[Cost | str]]]:
    """Yield what is known after each length: of each name and length the cost, or why there is none."""
    ending = time.monotonic() + options.deadline
    names = [*options.mechanisms, *options.references]
    known: dict[str, list[Cost | str]] = {name: [] for name in names}
    for number, length in enumerate(options.lengths):
        growth = (length / options.lengths[number - 1]) ** 2 if number else 0.0
        last = {name: costs[-1] for name, costs in known.items() if costs}
        # What holds least comes first: where memory ends, the others are done. On a GPU each is measured for itself.
        names.sort(key=lambda name: _sort_key(last.get(name)))
        groups = [[name] for name in names] if options.device.type == "cuda" else [names]
        for group in groups:
            left = ending - time.monotonic()
            missing = {name: why for name in group if (why := _reason(last.get(name), growth, left, options))}
            found = measure_length([name for name in group if name not in missing], length, options, warm=bool(number))
            for name in group:
                known[name].append(missing[name] if name in missing else found[name])
        sys.stderr.write(f"length {length} done\n")
        yield {name: known[name] for name in (*options.mechanisms, *options.references)}


def measure_length(names: Sequence[str], length: int, options: argparse.Namespace, *, warm: bool) -> Costs:
    """Measure some mechanisms and references at one length; one that fails does not keep the others from it.

    Args:
        names: What to measure.
        length: Number of tokens.
        options: The command line.
        warm: Whether all have run before, at another length: their kernels are loaded and have their work space.

    Returns:
        Of each the cost, or in one line what went wrong.
    """
    found: dict[str, Cost | str] = {}
    built: dict[str, Passes] = {}
    peaks: dict[str, int] = {}
    for name in names:
        try:
            built[name] = passes(name, length, options)
            if not warm:
                seconds_of(built[name].both, options.device)
            peaks[name] = peak_bytes(built[name].both, options.device)
        except torch.OutOfMemoryError:
            found[name] = NO_MEMORY
        except Exception as ex:  # Whatever the kernel of another raises is a finding about it.
            found[name] = f"{type(ex).__name__}: {str(ex).strip().partition(chr(10))[0]}"
    forward = {name: each.forward for name, each in built.items() if name in peaks}
    both = {name: each.both for name, each in built.items() if name in peaks}
    timed = {
        part: median_seconds(steps, options.repeats, options.device, options.budget)
        for part, steps in (("forward", forward), ("both", both))
    }
    costs = {name: Cost(timed["forward"][name], timed["both"][name], peaks[name]) for name in peaks}
    return {**found, **costs}


def _sort_key(cost: Cost | str | None) -> float:
    return cost.peak if isinstance(cost, Cost) else math.inf


def _reason(last: Cost | str | None, growth: float, left: float, options: argparse.Namespace) -> str | None:
    """Why something is not measured: no memory at a smaller length, or no time for what it will take; None = it is."""
    if last in (NO_MEMORY, NO_TIME):
        return str(last)
    once = last.both * growth if isinstance(last, Cost) else 0.0
    # One run for the peak and one of each part at least; more of each until the budget or the repeats are used up.
    runs = 3 + 2 * min(options.repeats, options.budget / max(once, 1e-9))
    return NO_TIME if left <= once * runs else None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the file after each length and show it."""
    options = arguments(argv)
    text, apart = "", differences(options)
    for known in measure(options):
        text = report(known, apart, options)
        publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
