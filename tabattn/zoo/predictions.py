"""Predictions of a run: networks sampled for tasks, and their table."""

from typing import Any, NamedTuple

from torch import Tensor

from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.scores import matches, validity
from tabattn.zoo.task_scores import named_scores


class SampledNetworks(NamedTuple):
    """Networks sampled for the tasks of a batch, and how well they do there.

    Attributes:
        number: Index in the zoo of the network that each stands beside, ``(networks,)``.
        task: Index of the task, of that shape.
        networks: The sampled networks.
        sampled: R2 of the sampled network on the held-out rows of the task, accuracy where it has classes,
            ``(networks,)``.
        original: That of the zoo's network there.
        reconstructed: That of that network encoded and decoded.
    """

    number: Tensor
    task: Tensor
    networks: NeuronTokens
    sampled: Tensor
    original: Tensor
    reconstructed: Tensor


def prediction_table(output: SampledNetworks, tokens: NeuronTokens, classes: Tensor | None) -> dict[str, list[Any]]:
    """Columns of a table with one line for each sampled network.

    Args:
        output: The networks, and their scores.
        tokens: The networks of the zoo that they stand beside.
        classes: Number of classes of each task; None = all are regressions.
    """
    networks = output.networks
    columns = {
        "network": output.number,
        "task": output.task,
        "valid": validity(networks),
        "vertices": networks.mask.sum(1),
        "edges": networks.edge.sum((1, 2)),
        "same_architecture": matches(networks, tokens).exact > 0,
    }
    figures = {"": output.sampled, "_original": output.original, "_reconstructed": output.reconstructed}
    for which, scores in figures.items():
        columns |= {f"{name}{which}": values for name, values in named_scores(scores, classes).items()}
    return {name: values.tolist() for name, values in columns.items()}
