"""Our TNP-D against the original one on its own protocol: ``python -m benchmarks.tnp --original <checkout>``.

The checkout is that of TNP-pytorch; nothing of it is part of this project. Every network of a seed takes the same
batches in turns, so the ratios of speed hold on a busy machine too, and all are scored on one saved evaluation set,
beside the process that made the tasks. Without a checkout only ours are trained.
"""

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from tqdm import tqdm

from benchmarks.measure import provenance
from datamodules import SyntheticPairs
from tabattn.batches import PairBatch
from tabattn.models.pair_architectures import ARCHITECTURES

SIZES = {"dim": 64, "heads": 4, "hidden": 128, "layers": 6}
BATCH = 16
LogDensity = Callable[[PairBatch], Tensor]
"""Log-density of each target of a batch given the context."""
Build = Callable[[], tuple[nn.Module, LogDensity]]
Plan = Callable[[nn.Module], tuple[Optimizer, LRScheduler]]


class Entrant(NamedTuple):
    """A network in training, and the seconds its steps took."""

    network: nn.Module
    log_density: LogDensity
    optimizer: Optimizer
    schedule: LRScheduler
    seconds: list[float]


def original(folder: Path) -> tuple[nn.Module, LogDensity]:
    """The original TNP-D in the sizes of its own configuration."""
    sys.path.insert(0, str(folder / "regression"))
    sys.modules["attrdict"] = _module("attrdict", AttrDict=Attributes)
    from models import tnp
    from models.tnpd import TNPD

    tnp.torch = Anywhere()
    network = TNPD(1, 1, SIZES["dim"], 4, SIZES["hidden"], SIZES["heads"], 0.0, SIZES["layers"])

    def log_density(batch: PairBatch) -> Tensor:
        (xc, xt), (yc, yt) = ((part[..., None].tensor_split([batch.context], 1)) for part in (batch.x, batch.y))
        given = Attributes(xc=xc, yc=yc, xt=xt, yt=yt)
        return network(given, reduce_ll=False).tar_ll

    return network, log_density


class Attributes(dict[str, Any]):
    """Stands in for the package attrdict, which no longer imports."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class Anywhere:
    """Stands in for torch where the original names CUDA as the device of a mask."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def zeros(self, *sizes: Any, device: str) -> Tensor:
        """Zeros on the default device."""
        return torch.zeros(*sizes)


def ours(**changes: Any) -> tuple[nn.Module, LogDensity]:
    """Our network in the same sizes."""
    network = ARCHITECTURES["tnpd"](**{**SIZES, "members": 1, **changes})

    def log_density(batch: PairBatch) -> Tensor:
        given = network(batch.x, batch.y, batch.member, batch.context)
        return given.log_prob(batch.y[:, batch.context :])

    return network, log_density


def entrants(options: argparse.Namespace, seed: int) -> dict[str, Entrant]:
    """Every network of a seed, with its optimizer."""

    def same(network: nn.Module) -> tuple[Optimizer, LRScheduler]:
        optimizer = Adam(network.parameters(), 5e-4)
        return optimizer, CosineAnnealingLR(optimizer, options.steps)

    def own(network: nn.Module) -> tuple[Optimizer, LRScheduler]:
        optimizer = Adam(network.parameters(), 1e-3)
        return optimizer, CosineAnnealingLR(optimizer, options.steps)

    made = {}
    builders: dict[str, tuple[Build, Plan]] = {
        "tabattn, 6 layers, as the original": (ours, same),
        "tabattn, 4 layers, twice the rate": (partial(ours, layers=4), own),
    }
    if options.original:
        builders = {"original, 6 layers": (partial(original, options.original), same), **builders}
    for name, (build, plan) in builders.items():
        torch.manual_seed(seed)
        network, log_density = build()
        network.to(options.device)
        made[name] = Entrant(network, log_density, *plan(network), [])
    return made


def train(options: argparse.Namespace, seed: int) -> dict[str, Entrant]:
    """Train all networks of a seed, batch by batch in turns."""
    made = entrants(options, seed)
    data = SyntheticPairs("tnp", batch_size=BATCH, steps_per_epoch=options.steps, seed=seed + 1)
    for given in tqdm(data.train_dataloader(), desc=f"seed {seed}"):
        batch = _on(given, options.device)
        for entrant in made.values():
            start = time.perf_counter()
            entrant.optimizer.zero_grad()
            (-entrant.log_density(batch).mean()).backward()
            entrant.optimizer.step()
            entrant.schedule.step()
            if options.device.type == "cuda":
                torch.cuda.synchronize(options.device)
            entrant.seconds.append(time.perf_counter() - start)
    return made


def evaluation_set(options: argparse.Namespace) -> list[PairBatch]:
    """The tasks that all are scored on, kept in a file."""
    path = options.folder / f"evaluation_{options.batches}.pt"
    if path.exists():
        return torch.load(path, weights_only=False)
    batches = list(SyntheticPairs("tnp", batch_size=BATCH, test_batches=options.batches).test_dataloader())
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(batches, path)
    return batches


@torch.no_grad()
def score(log_density: LogDensity, batches: list[PairBatch], device: torch.device) -> float:
    """The original's figure: the mean over batches of the mean log-density of a target."""
    return statistics.fmean(log_density(_on(batch, device)).mean().item() for batch in batches)


def report(options: argparse.Namespace, scores: Mapping[str, list[float]], seconds: Mapping[str, float]) -> str:
    """The result in Markdown."""
    base = next(iter(seconds))
    lines = [
        f"| network | log-likelihood | s.e. over seeds | minus {base} | ms per step | speed, relative |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, values in scores.items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        difference = statistics.fmean(values) - statistics.fmean(scores[base])
        cells = [f"{statistics.fmean(values):.4f}", f"{error:.4f}", f"{difference:+.4f}"]
        timed = name in seconds
        cells += [f"{1e3 * seconds[name]:.1f}", f"{seconds[base] / seconds[name]:.2f}"] if timed else ["", ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    digest = hashlib.sha256((options.folder / f"evaluation_{options.batches}.pt").read_bytes()).hexdigest()[:12]
    text = (
        f"{options.steps} steps of batches of {BATCH}, {options.seeds} seeds, {SIZES}; scored on {options.batches} "
        f"batches (SHA-256 {digest}). As the original: Adam 5e-4, cosine to zero; twice the rate: "
        "1e-3. Log-likelihood: nats of a target, mean over batches of batch means, as the original reports it. "
        "The oracle knows the kernel's length and scale of each task, which no network can; the best that one "
        "without them can do is about 0.068 less."
    )
    command = "`python -m benchmarks.tnp --original <checkout of TNP-pytorch>`"
    place = f"{provenance(options.device)}, {torch.get_num_threads()} threads"
    head = [
        "# TNP-D and ours on the protocol of Transformer Neural Processes",
        "",
        command,
        "",
        f"{place}.",
        "",
        text,
        "",
    ]
    return "\n".join([*head, *lines, ""])


def main() -> None:
    """Train, score and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, help="checkout of TNP-pytorch")
    parser.add_argument("--steps", type=int, default=3000, help="training steps (default: 3000)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (default: 3)")
    parser.add_argument("--batches", type=int, default=300, help="batches to score (default: 300)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="device (default: cpu)")
    parser.add_argument("--folder", type=Path, default=Path("runs/tnp"), help="where the evaluation set is kept")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/tnp.md"), help="report")
    options = parser.parse_args()
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
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    sys.stdout.write(text)


def _on(batch: PairBatch, device: torch.device) -> PairBatch:
    return batch._replace(x=batch.x.to(device), y=batch.y.to(device), member=batch.member.to(device))


def _module(name: str, **contents: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


if __name__ == "__main__":
    main()
