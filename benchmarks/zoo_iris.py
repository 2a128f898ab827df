"""Iris protocol of DeepWeightFlow (arXiv 2601.05052): ``python -m benchmarks.zoo_iris``.

Networks with 4 inputs, 16 hidden neurons and 3 classes are trained on iris and imported as a zoo, of which 100 are
training networks. The autoencoder is trained on these by ``configs/zoo.yaml``, the arguments in ``CHOSEN``, and further
arguments, such as ``--trainer.max_steps=1000``. Measured is the test accuracy, without fine-tuning, of 100 networks
sampled by each prior, and their novelty, beside noisy and averaged training networks, and trained networks that were
not shown. With ``--original FOLDER``, a checkout of NNeuralDynamics/DeepWeightFlow, the same of networks that its
program generates from the same 100.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_checkout, check_least, check_trainings, publish
from benchmarks.zoo_iris_networks import ENTRY, INITIAL, Iris, iris, original_samples, train_networks
from benchmarks.zoo_tables import table
from datamodules import NetworkZoo
from datamodules.zoo.imported import Table, import_networks
from tabattn.cli import CLI
from tabattn.contract.networks import NeuronTokens
from tabattn.tasks import NetworkVAE
from tabattn.zoo import execute
from tabattn.zoo.alignment import aligned
from tabattn.zoo.novelty import average, mates, noisy, novelty_gate
from tabattn.zoo.priors import Prior
from tabattn.zoo.sampling import as_tokens
from tabattn.zoo.tokens import detokenize

CONFIG = Path(__file__).parents[1] / "configs" / "zoo.yaml"
NETWORKS, SAMPLES = 125, 100
"""Networks trained, of which a zoo has 80 % as training networks; networks sampled by each prior."""
PRIORS: tuple[Prior, ...] = ("normal", "gauss", "kde", "flow")
LEVELS = (0.1, 0.3, 0.5, 1.0)
"""Levels of noise, in standard deviations of the training networks' weights."""
SIZES = {"vertices": 23, "levels": 3, "width": 16, "inputs": 4}
CHOSEN = (
    "--data.batch_size=25",
    "--data.steps_per_epoch=100",
    "--model.form=given",
    "--model.network.meta=none",
    "--model.loss.structure=1",
    "--model.loss.beta=2e-3",
    "--model.loss.free_bits=0",
    "--model.loss.valid=0",
    "--trainer.max_steps=1000",
)
"""Arguments of the training that differ from the configuration's, chosen on the first seed."""
EXPLAINED = """\
125 networks of 4 inputs, 16 hidden neurons (ReLU) and 3 classes, trained on 120 rows of iris by Adam for {epochs}
epochs, with initial weights of five kinds; 100 of them, aligned by weight matching, are the training networks of the
autoencoder. Accuracy on the other 30 rows, without fine-tuning: mean and standard deviation over the networks of all
seeds. Novelty: distance to the nearest training network over that among training networks, mean over seeds. The novelty
gate is that of [the zoo's page](../zoo.md#metrics) with accuracy as quality; the seeds that pass it are counted.

The autoencoder has the configuration `configs/zoo.yaml` and `{words}`.
DeepWeightFlow is the original's program by its own configuration, with Git Re-Basin, on the same 100 networks."""
TAKEN = ("--data.path", "--data.split", "--model.network", "--model.sizes", "--seed_everything")


class Row(NamedTuple):
    """Networks of a kind: test accuracy of each, novelty of weights and functions, and whether the gate is passed."""

    accuracy: Tensor
    weight: float
    function: float
    passed: bool


def accuracy(tokens: NeuronTokens, data: Iris) -> Tensor:
    """Share of the test rows that networks classify correctly, ``(networks,)``."""
    outputs = execute(tokens, data.x_test.expand(len(tokens.mask), -1, -1)).outputs
    return (outputs[..., : int(data.y.max()) + 1].argmax(2) == data.y_test).float().mean(1)


def import_aligned(path: Path, data: Iris, networks: Sequence[nn.Module], seed: int) -> NetworkZoo:
    """Zoo of aligned networks, with the training rows of iris alone."""
    dags = detokenize(aligned(as_tokens(networks)))
    import_networks(path, dags, Table(data.x.numpy(), data.y.numpy(), labels=True), seed=seed)
    return NetworkZoo(str(path))


def trained(path: Path, seed: int, further: Sequence[str]) -> tuple[NetworkVAE, dict[str, float]]:
    """Autoencoder trained on a zoo by its configuration, and its scores on networks that it was not trained on."""
    words = [f"--model.sizes.{name}={size}" for name, size in SIZES.items()]
    words += [f"--data.path={path}", f"--seed_everything={seed}", "--checkpoint.monitor=null"]
    cli = CLI([f"--config={CONFIG}", *QUIET, "--trainer.accelerator=cpu", *CHOSEN, *words, *further], run=False)
    cli.trainer.limit_val_batches = 0
    cli.trainer.fit(cli.model, cli.datamodule)
    found = cli.trainer.test(cli.model, cli.datamodule, verbose=False)[0]
    return cli.model.eval(), {name.removeprefix("test/"): float(value) for name, value in found.items()}


def gaussian(tokens: NeuronTokens, count: int, source: torch.Generator) -> NeuronTokens:
    """Networks whose weights are drawn from the normal distribution with the moments of others."""
    mixed = torch.randn(count, len(tokens.mask), generator=source) / len(tokens.mask) ** 0.5

    def drawn(values: Tensor) -> Tensor:
        centre = values.mean(0)
        return centre + torch.tensordot(mixed, values - centre, 1)

    first = NeuronTokens(*(part[:1].expand(count, *part.shape[1:]) for part in tokens))
    return first._replace(weight=drawn(tokens.weight), bias=drawn(tokens.bias))


def baselines(training: NeuronTokens, plain: NeuronTokens, seed: int) -> dict[str, NeuronTokens]:
    """Networks without a learned generator.

    Args:
        training: Training networks, aligned.
        plain: The same as they were trained.
        seed: Seed.
    """
    source = torch.Generator().manual_seed(seed)
    alone = torch.zeros(len(training.mask), dtype=torch.long)
    pairs = mates(training, alone, torch.arange(len(alone)), source)
    found = {f"noise of {level:g} standard deviations": noisy(training, level, source) for level in LEVELS}
    found["averages of pairs, aligned"] = average(training, *pairs)
    found["normal distribution of weights"] = gaussian(plain, SAMPLES, source)
    return found | {"normal distribution of weights, aligned": gaussian(training, SAMPLES, source)}


def measured(training: NeuronTokens, kinds: Mapping[str, NeuronTokens], data: Iris) -> dict[str, Row]:
    """Accuracy and novelty of each kind of networks."""

    def score(tokens: NeuronTokens, _: Tensor) -> Tensor:
        return accuracy(tokens, data)

    rows = {}
    for name, tokens in kinds.items():
        own, other = (torch.zeros(len(each.mask), dtype=torch.long) for each in (tokens, training))
        gate = novelty_gate(tokens, training, data.x, score, (own, other))
        point = gate.training if tokens is training else gate.samples
        rows[name] = Row(accuracy(tokens, data), point.weight, point.function, gate.passed)
    return rows


def run(seed: int, options: argparse.Namespace) -> tuple[dict[str, Row], dict[str, float]]:
    """Rows of the report by kind of networks, and scores of the reconstruction of networks that were not shown."""
    data = iris()
    networks = train_networks(data, NETWORKS, seed, options.epochs)
    with tempfile.TemporaryDirectory() as folder:
        zoo = import_aligned(Path(folder, "iris.h5"), data, networks, seed)
        task, scores = trained(zoo.path, seed, options.further)
        population = zoo.population
    shown, unseen = zoo.part("train"), np.concatenate([zoo.part("val"), zoo.part("test")])
    training, held_out = (NeuronTokens.of(population.take(part)) for part in (shown, unseen))
    kinds = {"training networks": training, "trained, not shown": held_out}
    kinds |= baselines(training, as_tokens([networks[i] for i in shown]), seed)
    kinds |= {f"sampled, prior `{prior}`": task.decode(task.draw(SAMPLES, prior=prior, seed=seed)) for prior in PRIORS}
    kinds["training networks, reconstructed"] = task.decode(task.embed(training))
    # The first, with which the original aligns the others, is one of the first kind, as there.
    given = [networks[i] for i in sorted(shown, key=lambda number: number % len(INITIAL))]
    for width in options.hidden if options.original else ():
        made = original_samples(options.original, given, width, seed, options.original_steps)
        kinds[f"DeepWeightFlow, width {width}"] = as_tokens(made)
    return measured(training, kinds, data), scores


def report_rows(found: Sequence[Mapping[str, Row]]) -> list[list[str]]:
    """Row of each kind: accuracy over the networks of all seeds, novelty as a mean over seeds, and passed gates."""
    lines = []
    for name in found[0]:
        own = [rows[name] for rows in found]
        each = 100 * torch.cat([row.accuracy for row in own])
        weight, function = mean(row.weight for row in own), mean(row.function for row in own)
        gates = f"{sum(row.passed for row in own)} of {len(own)}"
        lines.append([name, f"{each.mean():.1f} ± {each.std():.1f}", f"{weight:.2f}", f"{function:.2f}", gates])
    return lines


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo_iris",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1], help="seeds of all that is drawn (default: 0 1)"
    )
    parser.add_argument("--epochs", type=int, default=100, help="epochs of each network (default: %(default)s)")
    parser.add_argument("--original", type=Path, metavar="FOLDER", help="checkout of NNeuralDynamics/DeepWeightFlow")
    parser.add_argument("--hidden", type=int, nargs="+", default=[128], help="widths of its flow (default: 128)")
    parser.add_argument("--original-steps", type=int, help="training steps of its flow (default: its configuration's)")
    add_out(parser, "zoo_iris.md")
    options, further = parser.parse_known_args(argv)
    check_least(parser, options, seeds=0, epochs=1, hidden=1, original_steps=1)
    check_checkout(parser, "original", options.original, str(ENTRY))
    options.further = check_trainings(parser, further, TAKEN)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    options = arguments(argv)
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    runs = [run(seed, options) for seed in options.seeds]
    given = " ".join(argv if argv is not None else sys.argv[1:])
    head = ["", "test accuracy, %", "novelty of weights", "novelty of functions", "novelty gate passed"]
    scores = [
        [words, *(f"{found[name]:.3f}" for _, found in runs)]
        for name, words in (("functional_r2", "functional R2, median"), ("weight_r2", "R2 of weights"))
    ]
    text = [
        "# Iris protocol of DeepWeightFlow",
        "",
        f"`python -m benchmarks.zoo_iris{given and ' '}{given}`",
        "",
        EXPLAINED.format(epochs=options.epochs, words=" ".join([*CHOSEN, *options.further])),
        "",
        *table(head, report_rows([rows for rows, _ in runs])),
        "",
        "Reconstruction of networks that were not shown, by seed:",
        "",
        *table(["", *map(str, options.seeds)], scores),
        "",
        f"{provenance(torch.device('cpu'))}.",
    ]
    publish("\n".join(text) + "\n", options.out)
    sys.stdout.write(f"{options.out}\n")


if __name__ == "__main__":
    main()
