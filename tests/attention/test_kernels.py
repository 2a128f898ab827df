"""GPU kernels of entmax: what they need, trials that decide whether they are used, and FlexAttention's parity."""

import sys
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import AuxOutput, AuxRequest, BlockMask, flex_attention

from tabattn.attention import Entmax, Sparsefinder, flex, kernel_choice, kernels
from tabattn.attention.flex import BLOCK, Blocks, flex_entmax
from tabattn.attention.kernel_choice import agrees, plain_entmax
from tabattn.attention.kernels import adasplash_lacks, by_adasplash, flex_lacks
from tabattn.attention.scores import full_precision

close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "_tried", {})


def dense_flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    score_mod: Callable[..., Tensor] | None = None,
    block_mask: BlockMask | None = None,
    scale: float | None = None,
    return_aux: AuxRequest | None = None,
) -> tuple[Tensor, AuxOutput]:
    """FlexAttention with all scores in memory, which has a backward pass on a CPU.

    Pairs of blocks that the block mask leaves out are hidden, whatever its function says.
    """
    sizes = (*q.shape[:3], k.shape[2])
    shapes = torch.eye(4, dtype=torch.long).mul(-2).add(1).tolist()
    places = [torch.arange(size).view(shape) for size, shape in zip(sizes, shapes, strict=True)]
    scores = full_precision(q) @ full_precision(k).mT * scale
    scores = scores if score_mod is None else score_mod(scores, *places)
    listed = block_mask.to_dense().bool().repeat_interleave(BLOCK, -1).repeat_interleave(BLOCK, -2)
    scores = scores.masked_fill(~(block_mask.mask_mod(*places) & listed), -torch.inf)
    return torch._safe_softmax(scores, -1).to(v.dtype) @ v, AuxOutput(lse=scores.logsumexp(-1))


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are taken for possible, and FlexAttention has a backward pass."""
    monkeypatch.setattr(flex, "flex_attention", dense_flex)
    monkeypatch.setattr(kernels, "gpu_lacks", lambda q, package: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)


def tokens(queries: int, keys: int, width: int, values: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    sizes = ((2, 2, queries, width), (2, 2, keys, width), (2, 2, keys, values))
    return [torch.randn(size, dtype=dtype, requires_grad=True) for size in sizes]


def groups(queries: int, keys: int, number: int, several: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of queries and keys, some hidden or alone, and the pairs that share one."""
    own, theirs = (torch.randint(number, (2, 2, count, several)) for count in (queries, keys))
    own[:, :, 5], own[:, :, 7], theirs[:, :, 3] = -2, number + 50, -1
    return own, theirs, (own[..., :, None, :, None] == theirs[..., None, :, None, :]).flatten(-2).any(dim=-1)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("alphas", [(1.5, 1.5), (2.0, 1.2)])
@pytest.mark.parametrize(("number", "several"), [(4, 1), (9, 2)])
@pytest.mark.parametrize("sizes", [(130, 120, 8, 5), (60, 130, 16, 20), (20, 10, 3, 1)])
def test_flex_is_entmax_on_groups(sizes, number, several, alphas):
    x = tokens(*sizes)
    own, theirs, joined = groups(sizes[0], sizes[1], number, several)
    got = flex_entmax(*x, alphas, own, theirs)
    want = plain_entmax(*x, torch.tensor(alphas, dtype=torch.float64)[:, None, None], joined)
    close(got, want, atol=1e-12, rtol=1e-12)
    assert (got[:, :, [5, 7]] == 0).all()
    weight = torch.randn_like(want)
    grads = [torch.autograd.grad((out * weight).sum(), x) for out in (got, want)]
    for ours, reference in zip(*grads, strict=True):
        close(ours, reference, atol=1e-11, rtol=1e-11)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("part", [0, 1, 2])
def test_flex_has_the_gradient_of_each_input_alone(part):
    x = [each.detach() for each in tokens(150, 140, 8, 5)]
    x[part].requires_grad_()
    own, theirs, joined = groups(150, 140, 3, 1)
    outs = flex_entmax(*x, (1.5, 1.5), own, theirs), plain_entmax(*x, 1.5, joined)
    weight = torch.randn_like(outs[0])
    close(*(torch.autograd.grad((out * weight).sum(), x[part])[0] for out in outs), atol=1e-11, rtol=1e-11)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_flex_is_near_in_lower_precision(spread, dtype, near):
    q, k, v = (each.detach().to(dtype) for each in tokens(130, 300, 16, 16))
    own, theirs, joined = groups(130, 300, 3, 1)
    got = flex_entmax(spread * q, k, v, (1.5, 2.0), own, theirs)
    want = plain_entmax(spread * q, k, v, torch.tensor([1.5, 2.0])[:, None, None], joined)
    assert got.dtype == dtype
    assert float((got.float() - want).norm() / want.norm()) < near


def test_what_is_not_a_number_reaches_the_output_of_flex(on_cpu):
    q, k, v = tokens(130, 150, 8, 5)
    own, theirs, joined = groups(130, 150, 3, 1)
    with torch.no_grad():
        k[0, 0, 11] = torch.nan
    assert (flex_entmax(q, k, v, (1.5, 1.5), own, theirs).isnan() == plain_entmax(q, k, v, 1.5, joined).isnan()).all()


def placed(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Blocks, float]:
    """Arguments of the function that is compiled."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 1, 2, 256, 16, generator=generator).unbind()
    codes = torch.randint(5, (2, 1, 2, 256, 2), generator=generator).sort(dim=-2).values
    floor, order = torch.randn(1, 2, 256, generator=generator) - 2, torch.tensor([0.5, 1.0])
    return q, k, v, floor, order, 1 / order, Blocks.of(*codes.unbind()), 0.25


def test_torch_s_flex_attention_is_that_of_these_tests(monkeypatch):
    x = placed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        results = [flex._weighted(*x), flex._log_sum_exp(*x[:3], *x[6:])]
    assert flex.flex_attention is flex_attention
    monkeypatch.setattr(flex, "flex_attention", dense_flex)
    close([*results[0], results[1]], [*flex._weighted(*x), flex._log_sum_exp(*x[:3], *x[6:])], atol=1e-4, rtol=1e-4)


def test_other_groups_are_not_compiled_anew():
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    function = flex.compiled(flex._weighted, backend)
    for seed in range(3):
        x = placed(seed)
        close(function(*x), dense(*x), atol=1e-4, rtol=1e-4)
    assert len(graphs) == 1


def dense(*x: object) -> tuple[Tensor, Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "flex_attention", dense_flex)
        return flex._weighted(*x)


def test_blocks_hold_every_edge_and_few_others():
    torch.manual_seed(0)
    own, theirs = (torch.randint(16, (1, 2, 1024, 1)).sort(dim=-2).values for _ in range(2))
    blocks = Blocks.of(own, theirs)
    meet = (own == theirs.mT).unflatten(-1, (8, BLOCK)).unflatten(-3, (8, BLOCK)).any(dim=-1).any(dim=-2)
    assert torch.equal(blocks.mask().to_dense().bool(), meet)
    assert meet.float().mean() < 0.4
    assert torch.equal(blocks.query_counts, meet.sum(dim=-2, dtype=torch.int32))
    # Codes of any size: those that share a lane meet, too.
    far = Blocks.of(own + 2**40, theirs + 2**40 + flex.LANES)
    assert torch.equal(far.mask().to_dense().bool(), meet)
    assert not Blocks.of(own, -1 - theirs).key_counts.any()
    # Hidden keys are in no lane, the last ones neither.
    assert not Blocks.of(own + flex.LANES - 16, -1 - theirs).key_counts.any()


@pytest.mark.parametrize("count", [1, 127, 128, 129, 600])
def test_lengths_are_powers_of_two(count):
    x = torch.randn(1, 1, count, 3)
    placed = flex._ordered(x, torch.arange(count).flip(0)[None, None], 7)
    assert placed.shape[2] == {1: 128, 127: 128, 128: 128, 129: 256, 600: 1024}[count]
    assert torch.equal(placed[:, :, :count], x.flip(2))
    assert (placed[:, :, count:] == 7).all()


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("mode", ["gather", "flex"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grouping", ["kmeans", "fixed"])
def test_sparsefinder_by_flex_equals_mask(grouping, masked, mode, monkeypatch):
    calls = []
    monkeypatch.setattr(kernels, "flex_entmax", lambda *x, **own: calls.append(x) or flex_entmax(*x, **own))
    monkeypatch.setattr("tabattn.attention.sparsefinder.LEAST", 1)
    torch.manual_seed(0)
    own = {"grouping": grouping, "alpha": [1.5, 1.8]}
    made, other = (Sparsefinder(2, 8, mode=each, **own).double() for each in (mode, "mask"))
    if grouping == "kmeans":
        made.pattern.load_state_dict({"centroids": torch.randn(2, 1, 5, 4)})
    other.load_state_dict(made.state_dict())
    x = tokens(90, 110, 8, 8)
    mask = (torch.arange(110) % 5 > 0)[None, None, None].expand(2, 1, 1, 110) if masked else None
    got, want = made(*x, mask), other(*x, mask)
    assert calls
    close(got, want, atol=1e-9, rtol=1e-9)
    grads = [torch.autograd.grad(out.square().sum(), x) for out in (got, want)]
    for ours, reference in zip(*grads, strict=True):
        close(ours, reference, atol=1e-8, rtol=1e-8)
    close(made.weights(x[0], x[1], mask), other.weights(x[0], x[1], mask), atol=1e-9, rtol=1e-9)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    ("own", "masked", "message"),
    [
        ({"grouping": "l2"}, False, "flex needs a graph of groups without window and ends, got another"),
        ({"grouping": "fixed", "window": 3}, False, "flex needs a graph of groups without window and ends"),
        ({"grouping": "fixed"}, True, "flex needs a mask that is the same for all queries"),
    ],
)
def test_graphs_that_flex_cannot_compute_are_refused_or_gathered(own, masked, message, monkeypatch):
    monkeypatch.setattr("tabattn.attention.sparsefinder.LEAST", 1)
    q, k, v = tokens(40, 40, 8, 8, torch.float32)
    mask = torch.rand(40, 40) > 0.2 if masked else None
    with pytest.raises(ValueError, match=message):
        Sparsefinder(2, 8, mode="flex", **own)(q, k, v, mask)
    torch.manual_seed(1)
    gather = Sparsefinder(2, 8, mode="gather", **own)
    torch.manual_seed(1)
    close(gather(q, k, v, mask), Sparsefinder(2, 8, mode="mask", **own)(q, k, v, mask), atol=1e-5, rtol=1e-5)


def test_on_a_cpu_kernels_are_refused_by_name():
    x = torch.randn(3, 1, 2, 64, 16)
    with pytest.raises(ValueError, match="adasplash needs a CUDA device, got cpu"):
        Entmax(2, 16, kernel="adasplash")(*x)
    with pytest.raises(ValueError, match="flex needs a CUDA device, got cpu"):
        Sparsefinder(2, 16, mode="flex", grouping="fixed")(*x)
    with pytest.raises(ValueError, match="kernel must be auto, torch or adasplash, got 'triton'"):
        Entmax(2, 16, kernel="triton")
    close(Entmax(2, 16, kernel="torch")(*x), Entmax(2, 16)(*x), atol=0, rtol=0)
    close(Entmax(2, 16, kernel="adasplash").weights(x[0], x[1]), Entmax(2, 16).weights(x[0], x[1]), atol=0, rtol=0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Tensor]]:
    """Tensors without numbers on a GPU that is not there."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(kernel_choice, "_installed", lambda package: True)
    with FakeTensorMode():
        yield lambda *size, dtype=torch.bfloat16: torch.empty(size or (2, 4, 128, 64), dtype=dtype, device="cuda")


def test_calls_that_kernels_can_compute(gpu):
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = gpu(2, 4, 192, 16, dtype=dtype)
        assert adasplash_lacks(x, x, x, None, 1.3, 0.0) is None
    assert flex_lacks(gpu(2, 4, 77, 12), gpu(2, 4, 99, 12), gpu(2, 4, 99, 3), gpu(2, 1, 1, 99)) is None


@pytest.mark.parametrize(
    ("size", "own", "message"),
    [
        ((2, 4, 128, 64), {"alpha": torch.ones(4)}, "one alpha that is fixed, got one for each head"),
        ((2, 4, 128, 64), {"mask": torch.ones(1)}, "all keys visible, got a mask"),
        ((2, 4, 128, 64), {"dropout": 0.1}, "no dropout, got 0.1"),
        ((2, 4, 128, 48), {}, "head_dim 16, 32, 64, 128 or 256, got 48"),
        ((2, 4, 100, 64), {}, "a multiple of 64 tokens, got 100"),
        ((65_536, 1, 64, 16), {}, "at most 65535 items and heads, got 65536"),
        ((0, 1, 64, 16), {}, "at least one query, got none"),
    ],
)
def test_what_adasplash_needs(gpu, size, own, message):
    x = gpu(*size)
    assert adasplash_lacks(x, x, x, **{"mask": None, "alpha": 1.5, "dropout": 0.0, **own}) == message


def test_shapes_and_dtypes_that_adasplash_needs(gpu, monkeypatch):
    x = gpu()
    message = adasplash_lacks(x, gpu(2, 4, 64, 64), gpu(2, 4, 64, 64), None, 1.5, 0.0)
    assert message.startswith("queries, keys and values of one shape, got (2, 4, 128, 64), (2, 4, 64, 64)")
    assert "one dtype, got torch.bfloat16, torch.float32" in adasplash_lacks(x, x.float(), x.float(), None, 1.5, 0.0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert adasplash_lacks(x, x, x, None, 1.5, 0.0) == "no CUDA graph, as it waits for the device"


def test_what_flex_needs(gpu):
    x = gpu()
    assert "one dtype, got torch.bfloat16, torch.float32" in flex_lacks(x, x.float(), x, None)
    assert flex_lacks(gpu(1, 1, 9, 257), gpu(1, 1, 9, 257), x, None).endswith("of a width to 256, got 257 and 64")
    wide = gpu(256, 256, 1, 16)
    assert flex_lacks(wide, wide, wide, None) == "at most 65535 items x heads, got 65536"
    assert "the same for all queries" in flex_lacks(x, x, x, gpu(1, 1, 128, 128))


def test_what_both_need_of_the_machine(gpu, monkeypatch):
    x = gpu()
    assert flex_lacks(gpu(dtype=torch.float64), x, x, None) == "float16, bfloat16 or float32, got torch.float64"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert flex_lacks(x, x, x, None) == "eager execution, got torch.compile"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert flex_lacks(x, x, x, None) == "compute capability 8.0 or above, got 7.5"
    monkeypatch.setattr(kernel_choice, "_installed", lambda package: False)
    assert adasplash_lacks(x, x, x, None, 1.5, 0.0) == "the package adasplash, which is not installed"
    assert flex_lacks(x, x, x, None) == "the package triton, which is not installed"


def splash(q: Tensor, k: Tensor, v: Tensor, alpha: float, varlen: Tensor) -> Tensor:
    """Stand-in of the package's function, which refuses what that does."""
    assert q.shape == k.shape == v.shape
    assert all(each.is_contiguous() for each in (q, k, v))
    assert q.requires_grad or not (k.requires_grad or v.requires_grad)
    assert varlen.dtype == torch.int32
    assert varlen.tolist() == [q.shape[2]] * len(q)
    return plain_entmax(q, k, v, alpha, None).to(q.dtype)


@pytest.fixture
def adasplash(on_cpu, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The package adasplash in its stand-in; the shapes of its calls."""
    calls: list[tuple[int, ...]] = []

    def counted(*x: Tensor, **own: object) -> Tensor:
        calls.append(tuple(x[0].shape))
        return splash(*x, **own)

    monkeypatch.setitem(sys.modules, "adasplash", SimpleNamespace(adasplash_v1=counted))
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_takes_adasplash_after_one_trial(adasplash, dtype):
    x = [torch.randn(2, 64, 2, 16, dtype=dtype).transpose(1, 2).requires_grad_(number > 0) for number in range(3)]
    out = Entmax(2, 16)(*x)
    assert out.dtype == dtype
    close(out, Entmax(2, 16, kernel="torch")(*x), atol=0.02, rtol=0.02)
    assert adasplash == [(1, 2, kernel_choice.TRIAL, 16), (2, 2, 64, 16)]
    out.float().sum().backward()
    Sparsefinder(2, 16)(*x)
    assert adasplash[2:] == [(2, 2, 64, 16)]
    Entmax(2, 16, alpha=1.52)(*x)
    assert adasplash[3:] == [(2, 2, 64, 16)]
    Entmax(2, 16, kernel="adasplash", alpha=1.3)(*x)
    assert adasplash[4:] == [(2, 2, 64, 16)]
    Entmax(2, 16, kernel="torch")(*x)
    with torch.inference_mode():
        Entmax(2, 16, alpha=1.9)(*x)
    assert adasplash[5:] == [(1, 2, kernel_choice.TRIAL, 16), (2, 2, 64, 16)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda *x, **own: 1.01 * splash(*x, **own),
            "adasplash is not used for torch.float32 and head_dim 16: it differs",
        ),
        (lambda *x, **own: splash(*x, **own) * torch.nan, "it differs by nan, more than 0.0001"),
        (lambda *x, **own: splash(*x, **own) + (0 * x[1]).sum().sqrt(), "it differs by nan"),
        (lambda *x, **own: splash(*x, **own).detach() + 0 * sum(x), "it differs by 1"),
        (lambda *x, **own: {}["shared memory"], "head_dim 16: KeyError: 'shared memory'"),
    ],
    ids=["differs", "nan", "nan of a gradient", "gradient", "fails"],
)
def test_auto_leaves_a_kernel_that_fails_its_trial(adasplash, wrong, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "adasplash", SimpleNamespace(adasplash_v1=wrong))
    x = torch.randn(3, 1, 2, 64, 16)
    with pytest.warns(UserWarning, match=message):
        out = Entmax(2, 16)(*x)
    close(out, Entmax(2, 16, kernel="torch")(*x), atol=0, rtol=0)
    # The warning comes once.
    close(Entmax(2, 16)(*x), out, atol=0, rtol=0)


@pytest.mark.usefixtures("on_cpu")
def test_a_trial_of_flex_sees_a_wrong_gradient(monkeypatch):
    monkeypatch.setattr("tabattn.attention.sparsefinder.LEAST", 1)
    torch.manual_seed(0)
    made = Sparsefinder(2, 8, mode="gather", grouping="fixed")
    x = tokens(40, 40, 8, 8, torch.float32)
    monkeypatch.setattr(kernels, "flex_entmax", lambda q, k, v, **own: flex_entmax(q.detach() + 0 * q, k, v, **own))
    with pytest.warns(UserWarning, match="flex is not used for torch.float32 and head_dim 8: it differs by 1"):
        made(*x)


def test_a_trial_leaves_random_numbers_as_they_are(adasplash):
    state = torch.get_rng_state()
    Entmax(2, 16)(*torch.zeros(3, 1, 2, 64, 16))
    assert adasplash
    assert torch.equal(torch.get_rng_state(), state)


def test_no_trial_while_a_cuda_graph_is_captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    q = SimpleNamespace(device="cuda:0", dtype=torch.float32, shape=(1, 2, 64, 16), is_cuda=True)
    assert not agrees("flex", q, lambda: pytest.fail("tried"))
    assert kernel_choice._tried == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("length", [256, 1000])
def test_flex_on_a_gpu_is_entmax_on_groups(length, dtype, near):
    x = [torch.randn(2, 2, length, 32, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3)]
    own, theirs, joined = (each.cuda() for each in groups(length, length, 8, 1))
    check_on_gpu(flex_entmax(*x, (1.5, 2.0), own, theirs), x, torch.tensor([1.5, 2.0], device="cuda"), joined, near)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("tokens", [64, 192, 1024])
def test_adasplash_on_a_gpu_is_entmax(tokens, dtype, near):
    pytest.importorskip("adasplash")
    x = [torch.randn(2, 2, tokens, 32, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3)]
    out = by_adasplash("adasplash", *x, None, 1.5)
    assert out is not None
    check_on_gpu(out, x, torch.tensor([1.5, 1.5], device="cuda"), None, near)


def check_on_gpu(out: Tensor, x: list[Tensor], alphas: Tensor, joined: Tensor | None, near: float) -> None:
    wanted = plain_entmax(*x, alphas[:, None, None], joined)
    weight = torch.randn_like(wanted)
    results = [[each, *torch.autograd.grad((each.float() * weight).sum(), x)] for each in (out, wanted)]
    for ours, theirs in zip(*results, strict=True):
        assert float((ours.float() - theirs.float()).norm() / theirs.float().norm()) < near
