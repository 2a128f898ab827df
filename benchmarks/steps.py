"""Time of a training step of every task, as a share of peak performance too: ``python -m benchmarks.steps``.

Each task is built by its configuration, and timed on the batch of median size among the first nine: eager, in half
precision, compiled, and as CUDA graphs. A step consists of loss, gradients, clipping and optimizer, without the drawing
of the batch. FLOPs are those of matrix products; the peak is that of a large matrix product on the same machine in the
same precision. The report is written after each way. Further arguments go to the command line of each task, such as
``--data.batch_size=256``.
"""

import argparse
import copy
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

import datamodules  # noqa: F401  (makes the names of the configurations known)
from benchmarks.graphs import Batch, GraphedTraining
from benchmarks.measure import Step, median_seconds, provenance, seconds_of
from benchmarks.reports import QUIET, add_out, check_device, check_least, check_positive, check_trainings, publish
from tabattn.tasks import Task
from tabattn.training.cli import CLI

CONFIGS = Path(__file__).parents[1] / "configs"
TASKS = {"prior": CONFIGS / "prior.yaml", "pairs": CONFIGS / "pairs.yaml"}
IDLE = [*QUIET, "--trainer.accelerator=cpu", "--lr_scheduler=null", "--data.num_workers=0"]
"""Arguments without effect on a step: the trainer is not used, and batches are drawn in this process."""
BATCHES = 9
"""Number of batches of which the one of median size is timed, as sizes of tables differ widely."""
PRODUCT = {"cuda": 8192, "cpu": 1024}
"""Side of the square matrices whose product measures the peak performance, by device type."""


class Way(NamedTuple):
    """Way of taking steps.

    Attributes:
        dtype: Precision; half precision by autocast.
        compiled: Whether the loss is compiled.
        graph: Whether a step is the replay of a CUDA graph.
    """

    dtype: torch.dtype = torch.float32
    compiled: bool = False
    graph: bool = False


WAYS = {
    "eager": Way(),
    "eager, bfloat16": Way(torch.bfloat16),
    "graph": Way(graph=True),
    "graph, bfloat16": Way(torch.bfloat16, graph=True),
    "compiled": Way(compiled=True),
    "compiled, bfloat16": Way(torch.bfloat16, compiled=True),
    "compiled graph": Way(compiled=True, graph=True),
    "compiled graph, bfloat16": Way(torch.bfloat16, compiled=True, graph=True),
}


class Figures(NamedTuple):
    """Row of the report.

    Attributes:
        task: Name of the task.
        way: Name of the way.
        seconds: Median time of a step; NaN if it failed.
        flops: FLOPs of a step.
        problem: Error in one line; empty = none.
    """

    task: str
    way: str
    seconds: float
    flops: float
    problem: str = ""


class Training(NamedTuple):
    """Task with what a training step needs.

    Attributes:
        task: The task, on its device.
        optimizer: Its optimizer, the same for all ways.
        batch: Batch of every step.
        clip: Largest gradient norm; None = no clipping.
        start: State of the task and of the optimizer before the first step.
    """

    task: Task
    optimizer: Optimizer
    batch: Batch
    clip: float | None
    start: tuple[dict[str, Any], dict[str, Any]]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="NAME")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), metavar="NAME", help="default: all the device can")
    parser.add_argument("--repeats", type=int, default=30, help="timed steps, of which the median counts")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--deadline", type=float, default=math.inf, help="seconds after which no further way is begun")
    add_out(parser, "steps.md")
    options, further = parser.parse_known_args(argv)
    options.further = check_trainings(parser, further, IDLE)
    check_least(parser, options, repeats=1)
    check_positive(parser, options, "deadline")
    check_device(parser, options.device)
    on_gpu = options.device.type == "cuda"
    options.ways = options.ways or [name for name, way in WAYS.items() if on_gpu or not way.graph]
    if refused := next((name for name in options.ways if WAYS[name].graph and not on_gpu), None):
        parser.error(f"ways: {refused} needs --device cuda, got {options.device}")
    return options


def build(name: str, options: argparse.Namespace) -> Training:
    """Build a task by its configuration, in training mode on a device, with its batch of median size."""
    cli = CLI([f"--config={TASKS[name]}", *IDLE, *options.further], run=False)
    task, data = cli.model, cli.datamodule
    assert isinstance(task, Task)
    batch = median(list(islice(data.train_dataloader(), BATCHES)))
    batch = batch._replace(
        **{field: part.to(options.device) for field, part in batch._asdict().items() if isinstance(part, Tensor)}
    )
    task.to(options.device).train()
    if hasattr(task.network, "complete"):
        task.network.complete = bool(getattr(data, "complete", False))
    task.log = lambda *_, **__: None  # type: ignore[method-assign]  # There is no trainer to log to.
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, Optimizer)
    start = copy.deepcopy(task.state_dict()), copy.deepcopy(optimizer.state_dict())
    return Training(task, optimizer, batch, cli.trainer.gradient_clip_val, start)


def median(batches: Sequence[Batch]) -> Batch:
    """Return the batch of median size."""
    return sorted(batches, key=lambda batch: batch.x.numel())[len(batches) // 2]


def step(training: Training, way: Way) -> Step:
    """Return a training step; task and optimizer are reset to their initial state first."""
    task, optimizer, batch, clip, (weights, state) = training
    task.load_state_dict(weights)
    task.zero_grad()
    optimizer.load_state_dict(state)
    half = way.dtype != torch.float32

    def loss(batch: Batch) -> Tensor:
        with torch.autocast(batch.x.device.type, way.dtype if half else None, enabled=half):
            return task.training_step(batch, 0)

    chosen: Callable[[Any], Tensor] = torch.compile(loss) if way.compiled else loss
    if way.graph:
        graphs = GraphedTraining(task, chosen, optimizer, clip)
        return partial(graphs.step, batch)

    def run() -> None:
        optimizer.zero_grad()
        chosen(batch).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(task.parameters(), clip)
        optimizer.step()

    return run


def flops(training: Training) -> float:
    """Count the FLOPs of a step: those of all matrix products, with attention in its unfused form."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step(training, Way())()
    return float(counter.get_total_flops())


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the FLOPs per second of a large product of random square matrices."""
    side = PRODUCT[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2.0 * side**3 / statistics.median(seconds_of(lambda: a @ b, device) for _ in range(10))


def measure(options: argparse.Namespace) -> Iterator[Figures]:
    """Yield the row of each way and task; the failure of one does not stop the others."""
    start = time.monotonic()
    trainings = {name: build(name, options) for name in options.tasks}
    known = {name: flops(training) for name, training in trainings.items()}
    for way in options.ways:
        for name in options.tasks:
            if time.monotonic() - start > options.deadline:
                yield Figures(name, way, math.nan, known[name], "no time")
                continue
            torch.compiler.reset()
            try:
                run = step(trainings[name], WAYS[way])
                run()  # The first step creates the optimizer's state, the second is captured.
                run()
                seconds = median_seconds({way: run}, options.repeats, options.device)[way]
                yield Figures(name, way, seconds, known[name])
            except Exception as ex:  # An error of the compiler or of a capture is a result.
                problem = f"{type(ex).__name__}: {str(ex).strip().partition(chr(10))[0]}"
                yield Figures(name, way, math.nan, known[name], problem)


def report(lines: Sequence[Figures], peaks: dict[torch.dtype, float], options: argparse.Namespace) -> str:
    """Return the report in Markdown."""
    base = {line.task: line.seconds for line in reversed(lines)}
    rows = [["task", "way", "ms per step", "speed, relative", "GFLOP per step", "TFLOP/s", "share of peak"]]
    rows.append(["---", "---", *["---:"] * 5])
    for line in lines:
        if math.isnan(line.seconds):
            continue
        rate = line.flops / line.seconds
        share = f"{100 * rate / peaks[WAYS[line.way].dtype]:.2f} %"
        figures = [f"{1e3 * line.seconds:.3g}", f"{base[line.task] / line.seconds:.2f}"]
        rows.append([line.task, line.way, *figures, f"{line.flops / 1e9:.3g}", f"{rate / 1e12:.3g}", share])
    words = ["python -m benchmarks.steps", "--tasks", *options.tasks, f"--repeats {options.repeats}"]
    words += [f"--device {options.device}", *options.further]
    ceiling = ", ".join(f"{_name(dtype)} {rate / 1e12:.3g} TFLOP/s" for dtype, rate in peaks.items())
    side = PRODUCT[options.device.type]
    text = (
        f"Each task by its configuration, on the batch of median size among the first {BATCHES}, median of "
        f"{options.repeats} steps: loss, gradients, clipping, optimizer. Operations: all products of matrices in it. "
        f"Peak: one product of {side} x {side} matrices on this machine, {ceiling}. bfloat16 by autocast, as "
        "`--trainer.precision=bf16-mixed`; float32 is full float32."
    )
    left_out = [f"- {line.task}, {line.way}: {line.problem}" for line in lines if line.problem]
    head = [
        "# Training steps of every task",
        "",
        f"`{' '.join(words)}`",
        "",
        f"{provenance(options.device)}.",
        "",
        text,
    ]
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*head, "", *table, "", *(["Left out:", "", *left_out, ""] if left_out else [])])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write the report after each way, and print it."""
    options = arguments(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    peaks = {dtype: peak(dtype, options.device) for dtype in {WAYS[way].dtype: None for way in options.ways}}
    lines: list[Figures] = []
    text = ""
    for line in measure(options):
        lines.append(line)
        text = report(lines, peaks, options)
        publish(text, options.out)
        sys.stderr.write(f"{line.task}, {line.way}: {1e3 * line.seconds:.3g} ms {line.problem}\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
