"""Population training: each network as if it were trained alone."""

import numpy as np
import pytest
import torch
from torch import nn

from datamodules.zoo.architectures import Runs, buckets, draw_runs
from datamodules.zoo.generate import table_of
from datamodules.zoo.profiles import PROFILES
from datamodules.zoo.tasks import Tasks, draw_tasks
from datamodules.zoo.training import Layers, batch_rows, initial, population_of, train
from tabattn.contract.modules import to_module

SEED = 5


def drawn(profile: str, count: int, tasks: int = 6) -> tuple[Runs, Tasks]:
    chosen = PROFILES[profile]
    made = draw_tasks(chosen.tasks, tasks, SEED)
    return draw_runs(chosen.networks, count, made.columns, SEED), made


@pytest.mark.parametrize("profile", ["seed", "default"])
def test_a_network_of_a_bucket_is_the_one_trained_alone(profile: str) -> None:
    runs, tasks = drawn(profile, 400)
    table, steps = table_of(tasks, torch.device("cpu")), 20
    piece = list(buckets(runs, 64))[-1]
    bucket = runs.at(piece)
    trained = train(bucket, table, [10, steps], 32, SEED)
    flat = initial(trained.layers, bucket, SEED)
    before = population_of(trained.layers, bucket, flat)
    after = population_of(trained.layers, bucket, trained.parameters[:, -1])
    for index in range(0, len(bucket.run), 17):
        network = to_module(before[index])
        optimizer = torch.optim.Adam(network.parameters(), lr=float(bucket.rate[index]))
        columns = int(bucket.inputs[index])
        for step in range(steps):
            rows = table.rows[batch_rows(bucket, table, step, 32, SEED)[index]]
            optimizer.zero_grad()
            nn.functional.mse_loss(network(rows[:, :columns]), rows[:, -1:]).backward()
            optimizer.step()
        alone = torch.cat([p.flatten() for p in network.parameters()])
        together = torch.cat([p.flatten() for p in to_module(after[index]).parameters()])
        assert torch.allclose(alone, together, rtol=1e-4, atol=2e-5)


def test_initial_weights_are_those_of_linear_layers_and_unrelated() -> None:
    runs, _ = drawn("default", 400)
    bucket = runs.at(next(piece for piece in buckets(runs, 64) if runs.skips[piece].all()))
    layers = Layers.of(bucket, 16, SEED)
    made = population_of(layers, bucket, initial(layers, bucket, SEED))
    for number in range(len(made)):
        graph = made[number]
        drawn_numbers = np.concatenate([graph.weight, graph.bias[graph.bias != 0]])
        assert len(np.unique(drawn_numbers)) > 0.999 * len(drawn_numbers)
        bound = 1 / np.sqrt(np.diff(graph.pointer).clip(min=1))
        assert (np.abs(graph.weight) <= bound[graph.child]).all()
        assert (np.abs(graph.bias) <= bound).all()
        scaled = graph.weight / bound[graph.child]
        assert abs(scaled.std() - 3**-0.5) < 0.1
