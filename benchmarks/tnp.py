"""Comparison of TNPD with the original TNP-D on its protocol: ``python -m benchmarks.tnp --original <checkout>``.

The checkout is that of TNP-pytorch, which is no part of this project. The networks of a seed take the same batches in
turns, so that ratios of speed hold on a busy machine too. All are scored on one saved evaluation set, as is the oracle.
Without a checkout only networks of this project are trained. ``--biased`` compares those of 4 layers with and without a
distance bias of attention. On a GPU, ``--graphs`` replays all steps as CUDA graphs,
with which the original's 100,000 steps take minutes.
"""

import argparse
import hashlib
import math
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.distributions import Distribution
from tqdm import tqdm

from benchmarks.graphs import GraphedTraining, Places
from benchmarks.measure import on_device, provenance
from benchmarks.reports import add_out, check_checkout, check_device, check_least, publish, writable_folder
from benchmarks.tnp_costs import costs
from benchmarks.tnp_networks import MUON, SIZES, WAVES, Entrant, LogDensity, biased, entrants
from datamodules import SyntheticPairs
from datamodules.pairs import SyntheticEvaluation
from tabattn.contract.batches import PairBatch

BATCH = 16
TIMED = 25
"""Interval in steps at which a graph's replay is timed; between them nothing synchronises with the GPU."""


def train(options: argparse.Namespace, seed: int) -> dict[str, Entrant]:
    """Train all networks of a seed, in turns on each batch."""
    if options.biased:
        made = biased(seed, options.device)
    else:
        made = entrants(options.original, seed, options.device, options.equal)
    data = SyntheticPairs(
        "tnp", batch_size=BATCH, steps_per_epoch=options.steps, seed=seed + 1, num_workers=options.workers
    )
    batches = tqdm(data.train_dataloader(), desc=f"seed {seed}", mininterval=5.0)
    if options.graphs:
        _with_graphs(made, batches, options)
        return made
    for number, given in enumerate(batches):
        batch = on_device(given, options.device)
        for entrant in made.values():
            start = time.perf_counter()
            for group, rate in zip(entrant.optimizer.param_groups, entrant.rates, strict=True):
                group["lr"] = rate * factor(number, options.steps)
            entrant.optimizer.zero_grad()
            entrant.loss(batch).backward()
            entrant.optimizer.step()
            _wait(options.device)
            entrant.seconds.append(time.perf_counter() - start)
    return made


def factor(step: int, steps: int) -> float:
    """Learning rate as a fraction of its peak: cosine decay, as in the original."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _with_graphs(made: Mapping[str, Entrant], batches: Iterable[PairBatch], options: argparse.Namespace) -> None:
    Distribution.set_default_validate_args(False)  # The original's argument checks synchronise with the GPU.
    for entrant in made.values():
        for part in entrant.network.modules():
            if isinstance(part, nn.TransformerEncoder):
                _tell_no_mask_is_causal(part)
    graphs = {name: GraphedTraining(made[name].network, made[name].loss, made[name].optimizer) for name in made}
    places = Places(options.device)
    for number, given in enumerate(batches):
        batch = places.put(given)
        for name, entrant in made.items():
            timed = number % TIMED == 0
            if timed:
                _wait(options.device)
            start = time.perf_counter()
            replayed = graphs[name].step(batch, entrant.rates[0] * factor(number, options.steps))
            if timed and replayed:
                _wait(options.device)
                entrant.seconds.append(time.perf_counter() - start)


def _tell_no_mask_is_causal(encoder: nn.TransformerEncoder) -> None:
    """Tell torch's encoder that its mask is not causal; it would synchronise with the GPU to find out."""
    encoder.register_forward_pre_hook(lambda _, given, named: (given, {**named, "is_causal": False}), with_kwargs=True)


def evaluation_set(options: argparse.Namespace) -> list[PairBatch]:
    """Evaluation tasks of all networks, kept in a file."""
    path = options.folder / f"evaluation_{options.batches}.pt"
    if path.exists():
        return torch.load(path, weights_only=False)
    batches = list(
        SyntheticPairs(
            "tnp", evaluation=SyntheticEvaluation(test_batches=options.batches), batch_size=BATCH
        ).test_dataloader()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(batches, path)
    return batches


@torch.no_grad()
def score(log_density: LogDensity, batches: list[PairBatch], device: torch.device) -> float:
    """Score of the original: mean over batches of the mean log-density of a target."""
    return statistics.fmean(log_density(on_device(batch, device)).mean().item() for batch in batches)


def report(options: argparse.Namespace, scores: Mapping[str, list[float]], seconds: Mapping[str, float]) -> str:
    """Report in Markdown."""
    digest = hashlib.sha256((options.folder / f"evaluation_{options.batches}.pt").read_bytes()).hexdigest()[:12]
    sizes = SIZES | ({"layers": 4} if options.biased else {})
    text = (
        f"{options.steps} steps of batches of {BATCH}, {options.seeds} seeds, {sizes}; scored on {options.batches} "
        f"batches (SHA-256 {digest}). {_training(options)} "
        "Log-likelihood: nats of a target, mean over batches of batch means, as the original reports it. "
        "Differences: seed by seed, with their standard error where there are several. "
        "The oracle knows length scale and variance of the kernel of each task; the best prediction without them is "
        "about 0.068 lower."
    )
    chosen = [f"--steps {options.steps}", f"--seeds {options.seeds}", f"--batches {options.batches}"]
    chosen += [f"--device {options.device}"] if options.device.type != "cpu" else []
    chosen += [f"--{name}" for name in ("biased", "equal", "graphs") if getattr(options, name)]
    original = "" if options.original is None else "--original <checkout of TNP-pytorch> "
    title = "TNPD and the original TNP-D"
    if options.biased:
        title = "TNPD with and without distance bias"
    head = [f"# {title} on the protocol of Transformer Neural Processes", ""]
    head += [
        f"`python -m benchmarks.tnp {original}{' '.join(chosen)}`",
        "",
        f"{provenance(options.device)}.",
        "",
        text,
        "",
    ]
    lines = [*head, *table(scores, seconds), ""]
    if options.biased:
        lines += ["A forward and a backward pass on a CPU, processor time, and what is kept for the backward pass:", ""]
        lines += [*costs(biased(0, torch.device("cpu")), BATCH), ""]
    return "\n".join(lines)


def _training(options: argparse.Namespace) -> str:
    """Sentences on optimizers and options of the networks."""
    if options.biased:
        return (
            "All rates fall to zero by a cosine, as in the original. Adam, fused: 1e-3, twice the original's rate. "
            f"MuonAdamW: {MUON[0]} for matrices, {MUON[1]} for the rest. Distance bias: "
            f"`tokens.distances={WAVES}`; relative values: `tokens.relative=true` with it."
        )
    twice = "" if options.equal else "; twice the rate: 1e-3"
    way = "; all steps are CUDA graphs" if options.graphs else ""
    return f"As the original: Adam 5e-4, cosine to zero (ours fused){twice}{way}."


def table(scores: Mapping[str, list[float]], seconds: Mapping[str, float]) -> list[str]:
    """Rows of the networks in Markdown.

    Args:
        scores: Scores of each network by seed; a single one without seeds.
        seconds: Time of a step of each network, the reference first.
    """
    base = next(iter(seconds))
    lines = [
        f"| network | log-likelihood | s.e. over seeds | minus {base} | ms per step | speed, relative |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, values in scores.items():
        error = f"{_error(values):.4f}" if len(values) > 1 else ""
        cells = [f"{statistics.fmean(values):.4f}", error, "" if name == base else _difference(values, scores[base])]
        timed = name in seconds
        cells += [f"{1e3 * seconds[name]:.1f}", f"{seconds[base] / seconds[name]:.2f}"] if timed else ["", ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _difference(values: Sequence[float], others: Sequence[float]) -> str:
    """Mean difference of paired values, with its standard error if there are several pairs."""
    text = f"{statistics.fmean(values) - statistics.fmean(others):+.4f}"
    if len(values) != len(others) or len(values) < 2:
        return text
    return f"{text} ± {_error([value - other for value, other in zip(values, others, strict=True)]):.4f}"


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean."""
    return statistics.stdev(values) / len(values) ** 0.5


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tnp",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--original", type=Path, help="checkout of TNP-pytorch")
    parser.add_argument("--steps", type=int, default=3000, help="training steps (default: 3000)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (default: 3)")
    parser.add_argument("--batches", type=int, default=300, help="batches to score (default: 300)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw tasks (default: 0)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="device (default: cpu)")
    parser.add_argument("--equal", action="store_true", help="leave out our network with other sizes")
    parser.add_argument("--biased", action="store_true", help="compare networks with and without distance bias instead")
    parser.add_argument("--graphs", action="store_true", help="take the steps as CUDA graphs")
    parser.add_argument(
        "--folder", type=writable_folder, default=Path("runs/tnp"), help="where the evaluation set is kept"
    )
    add_out(parser, "tnp.md")
    options = parser.parse_args(argv)
    check_least(parser, options, steps=1, seeds=1, batches=1, threads=1, workers=0)
    check_device(parser, options.device)
    check_checkout(parser, "original", options.original, "regression/models/tnpd.py")
    if options.graphs and options.device.type != "cuda":
        parser.error(f"--graphs needs --device=cuda, got {options.device}")
    if options.biased and (given := [name for name in ("original", "equal", "graphs") if getattr(options, name)]):
        parser.error(f"--biased compares networks of this project alone, without --{given[0]}")
    if options.biased and options.out == parser.get_default("out"):
        options.out = options.out.with_name("tnp_distances.md")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train and score the networks; write and print the report."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    batches = evaluation_set(options)
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for name, entrant in train(options, seed).items():
            entrant.network.eval()
            scores.setdefault(name, []).append(score(entrant.log_density, batches, options.device))
            seconds.setdefault(name, []).extend(entrant.seconds)
            sys.stderr.write(f"seed {seed}, {name}: {scores[name][-1]:.4f}\n")
    known = [batch.oracle.log_density.mean().item() for batch in batches if batch.oracle is not None]
    scores["oracle"] = [statistics.fmean(known)]
    text = report(options, scores, {name: statistics.median(values) for name, values in seconds.items()})
    publish(text, options.out)
    sys.stdout.write(text)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
