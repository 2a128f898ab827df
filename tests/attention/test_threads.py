"""Attention capture in several threads, asyncio tasks and nested contexts of one model."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import pytest
import torch
from torch import Tensor, nn

from tabattn.attention import Mechanism, Softmax, capture
from tabattn.nn.multihead import MultiheadAttention


class Outer(Mechanism):
    """A mechanism that runs another one, by a keyword."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__(heads, head_dim)
        self.inner = Softmax(heads, head_dim, dropout=0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.inner(q, k, v=v, mask=mask)


@pytest.fixture
def _often() -> object:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize("factory", [Softmax, Outer])
def test_maps_of_threads_never_mix(factory) -> None:
    layer = MultiheadAttention(8, 2, factory).eval()
    inputs = {length: torch.randn(1, length, 8) for length in range(3, 9)}
    expected = {}
    for length, x in inputs.items():
        with capture(layer) as maps:
            layer(x)
        expected[length] = maps["mechanism"][0].weights
    barrier = Barrier(len(inputs))

    def work(length: int) -> None:
        barrier.wait()
        for _ in range(40):
            with capture(layer) as maps:
                layer(inputs[length])
            assert [len(records) for records in maps.values()] == [1] * len(maps)
            for records in maps.values():
                torch.testing.assert_close(records[0].weights, expected[length])

    with ThreadPoolExecutor(len(inputs)) as pool:
        list(pool.map(work, inputs))
    assert not any(module._forward_hooks for module in layer.modules())


def test_calls_of_another_thread_are_not_recorded() -> None:
    layer = MultiheadAttention(8, 2)
    with capture(layer) as maps:
        thread = Thread(target=layer, args=(torch.randn(1, 3, 8),))
        thread.start()
        thread.join()
        assert maps == {"mechanism": []}
        layer(torch.randn(1, 4, 8))
    assert [record.weights.shape[-1] for record in maps["mechanism"]] == [4]


def test_tasks_that_take_turns_see_their_own_calls() -> None:
    layer = MultiheadAttention(8, 2)

    async def look(length: int) -> list[int]:
        with capture(layer) as maps:
            for _ in range(3):
                layer(torch.randn(1, length, 8))
                await asyncio.sleep(0)
        return [record.weights.shape[-1] for record in maps["mechanism"]]

    async def both() -> list[list[int]]:
        return await asyncio.gather(look(3), look(5))

    assert asyncio.run(both()) == [[3] * 3, [5] * 3]


def test_captures_inside_one_another_record_each_call_once() -> None:
    layer = MultiheadAttention(8, 2, Outer)
    x = torch.randn(1, 3, 8)
    with capture(layer) as outer:
        layer(x)
        with capture(layer) as inner:
            layer(x)
        layer(x)
    assert {path: len(records) for path, records in inner.items()} == {"mechanism": 1, "mechanism.inner": 1}
    assert {path: len(records) for path, records in outer.items()} == {"mechanism": 3, "mechanism.inner": 3}


def test_a_map_is_computed_without_touching_what_other_threads_train() -> None:
    mechanism = Outer(2, 4).train()
    seen: list[bool] = []
    mechanism.inner.register_forward_pre_hook(lambda *_: seen.extend(m.training for m in mechanism.modules()))
    q = torch.randn(1, 2, 5, 4)
    weights = mechanism.weights(q, q)
    torch.testing.assert_close(weights, mechanism.eval().inner.weights(q, q))
    assert seen[:2] == [True, True]


def test_modules_without_parts_are_seen() -> None:
    net = nn.ModuleDict({"a": Softmax(2, 4), "b": nn.Identity()})
    with capture(net) as maps:
        net["a"](*[torch.randn(1, 2, 3, 4)] * 3)
    assert len(maps["a"]) == 1
