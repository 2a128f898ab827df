"""Time and peak memory of every mechanism by sequence length, relative to Softmax: ``python -m benchmarks.attention``.

``--references`` adds kernels of other libraries. With ``--deadline`` the program ends after about so many seconds:
measurements that would take longer, extrapolated from shorter lengths, are skipped and listed. The report is written
after each length.
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
from benchmarks.measure import median_seconds, seconds_of
from benchmarks.references import REFERENCES
from benchmarks.reports import add_out, check_device, check_least, check_positive, publish
from tabattn.attention import MECHANISMS
from tabattn.compare.clocks import peak_bytes

NO_MEMORY, NO_TIME = "out of memory", "no time"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Passes(NamedTuple):
    """Timed functions of one mechanism at one length.

    Attributes:
        forward: A forward pass with an autograd graph.
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
        # As in training: float32 parameters, and autocast for half precision.
        with torch.autocast(device.type, dtype if half else None, enabled=half):
            return attend(q, k, v)

    def both() -> tuple[Tensor, ...]:
        out = forward()
        return torch.autograd.grad(out, inputs, gradient.to(out.dtype), allow_unused=True)

    return Passes(forward, both)


def differences(options: argparse.Namespace) -> dict[str, float]:
    """Relative difference of each reference from the equivalent mechanism, at the smallest length.

    Returns:
        ``|theirs - ours| / |ours|`` over outputs and gradients; NaN for references that do not run on this device.
    """
    found = {}
    for name in options.references:
        try:
            theirs, ours = (_results(each, options) for each in (name, REFERENCES[name].equals))
            found[name] = float((theirs - ours).norm() / ours.norm())
        except Exception:  # The measurement below reports the error.
            found[name] = math.nan
    return found


def _results(name: str, options: argparse.Namespace) -> Tensor:
    """Outputs and gradients with respect to q, k and v, on the same random numbers for all."""
    made = passes(name, options.lengths[0], options)
    return torch.cat([part.detach().double().flatten() for part in (made.forward(), *made.both()[:3])])


def measure(options: argparse.Namespace) -> Iterator[dict[str, list[Cost | str]]]:
    """Yield the results after each length: for each name, the costs by length, or a reason for a missing one."""
    ending = time.monotonic() + options.deadline
    names = [*options.mechanisms, *options.references]
    known: dict[str, list[Cost | str]] = {name: [] for name in names}
    for number, length in enumerate(options.lengths):
        growth = (length / options.lengths[number - 1]) ** 2 if number else 0.0
        last = {name: costs[-1] for name, costs in known.items() if costs}
        # By increasing memory, so that running out of memory comes last. On a GPU each is measured separately.
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
    """Measure mechanisms and references at one length; the failure of one does not stop the others.

    Args:
        names: Names of mechanisms and references.
        length: Number of tokens.
        options: The command line.
        warm: Whether all have run before, at another length, so that kernels and workspaces are loaded.

    Returns:
        The cost by name, or a line about the error.
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
        except Exception as ex:  # An error of another library's kernel is a result.
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
    """Reason to skip a measurement: out of memory at a smaller length, or too little time left; None = measure."""
    if last in (NO_MEMORY, NO_TIME):
        return str(last)
    once = last.both * growth if isinstance(last, Cost) else 0.0
    # At least one run for the peak and one of each part; more until the budget or the repeats are used up.
    runs = 3 + 2 * min(options.repeats, options.budget / max(once, 1e-9))
    return NO_TIME if left <= once * runs else None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write the report after each length, and print it."""
    options = arguments(argv)
    text, apart = "", differences(options)
    for known in measure(options):
        text = report(known, apart, options)
        publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
