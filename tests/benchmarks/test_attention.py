import pytest
import torch

from benchmarks.attention import NO_MEMORY, NO_TIME, arguments, differences, main, measure, measure_length
from benchmarks.attention_report import Cost, growth
from benchmarks.references import REFERENCES, Reference, window_mask
from tabattn.attention import MECHANISMS
from tabattn.attention.patterns import band
from tabattn.compare.clocks import peak_bytes

LINEAR = ["Local", "Pooling", "Inducing", "Linear", "TopK", "Entmax"]


def test_peak_is_memory_in_use_at_one_time():
    x = torch.zeros(1000, 1000)

    def step():
        first = x + 1
        del first
        second = x + 1
        return second + 1

    small = 1000  # the numbers added, as tensors
    assert 2 * x.nbytes <= peak_bytes(step, torch.device("cpu")) < 2 * x.nbytes + small


def test_memory_grows_as_documented():
    options = arguments(["--lengths", "512", "1024", "--repeats", "1", "--mechanisms", "Scratch", *LINEAR])
    *_, known = measure(options)
    peaks = {name: [cost.peak for cost in costs] for name, costs in known.items()}
    exponents = growth(peaks, options.lengths)
    assert exponents["Scratch"] > 1.9
    assert all(exponents[name] < 1.1 for name in LINEAR)


def test_report_is_written_and_shown(tmp_path, capsys):
    out = tmp_path / "new" / "attention.md"
    main(["--lengths", "8", "16", "--repeats", "1", "--mechanisms", "Linear", "--out", str(out)])
    text = out.read_text()
    assert capsys.readouterr().out == text
    assert "torch " + torch.__version__ in text
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")] == [
        "Mechanism",
        "---",
        "Softmax",
        "Linear",
    ] * 3
    assert "Left out" not in text


def test_bad_numbers_are_refused(capsys):
    cases = (
        (["--lengths", "0"], "lengths must be at least 1, got 0"),
        (["--repeats", "0"], "repeats must be at least 1, got 0"),
        (["--deadline", "0"], "deadline must be greater than 0, got 0"),
        (["--budget", "nan"], "budget must be greater than 0, got nan"),
    )
    for argv, message in cases:
        with pytest.raises(SystemExit):
            arguments(argv)
        assert message in capsys.readouterr().err


def tiny(*words):
    return arguments(["--lengths", "8", "16", "--repeats", "1", "--mechanisms", "Linear", *words])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_references_are_measured_and_compute_the_same(dtype):
    options = tiny("--references", "SDPA math", "SDPA flash", "--dtype", dtype)
    apart = differences(options)
    assert all(figure < (1e-6 if dtype == "float32" else 2e-2) for figure in apart.values())
    *_, known = measure(options)
    assert list(known) == ["Softmax", "Linear", "SDPA math", "SDPA flash"]
    assert all(isinstance(cost, Cost) and min(cost) > 0 for costs in known.values() for cost in costs)


def test_a_reference_with_other_results_is_reported(monkeypatch):
    monkeypatch.setitem(REFERENCES, "SDPA math", Reference(lambda *_: lambda q, k, v: q + k + v, "Softmax"))
    assert differences(tiny("--references", "SDPA math"))["SDPA math"] > 0.5


def test_a_failure_is_reported_and_others_are_measured(monkeypatch, tmp_path, capsys):
    def broken(length, device):
        def attend(q, k, v):
            raise RuntimeError(f"no kernel\nfor {length}")

        return attend

    monkeypatch.setitem(REFERENCES, "SDPA math", Reference(broken, "Softmax"))
    out = tmp_path / "attention.md"
    words = ["--lengths", "8", "16", "--repeats", "1", "--mechanisms", "Linear", "--references", "SDPA math"]
    main([*words, "SDPA flash", "--out", str(out)])
    text = out.read_text()
    assert "- SDPA math, 8, 16 tokens: RuntimeError: no kernel\n" in text
    assert "| SDPA math |  |  |  |\n" in text
    assert "- SDPA flash and Softmax: 0.0e+00" in text
    assert "- SDPA math and" not in text


def test_running_out_of_memory_stops_one_mechanism_only(monkeypatch):
    class Greedy(MECHANISMS["Linear"]):
        def forward(self, q, k, v, mask=None):
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(MECHANISMS, "Linear", Greedy)
    *_, known = measure(tiny())
    assert known["Linear"] == [NO_MEMORY] * 2
    assert all(isinstance(cost, Cost) for cost in known["Softmax"])


def test_measurements_beyond_the_deadline_are_skipped(monkeypatch):
    costs = {"Softmax": Cost(1.0, 2.0, 20.0), "Linear": Cost(0.01, 0.02, 10.0)}
    asked = []

    def found(names, length, options, *, warm):
        asked.append((length, warm, list(names)))
        return {name: costs[name] for name in names}

    monkeypatch.setattr("benchmarks.attention.measure_length", found)
    # Three runs of Softmax, 2 s each at length 8, would take 4 * 3 * 2 s at twice the length, beside the timed ones.
    *_, known = measure(tiny("--deadline", "20", "--budget", "0.1"))
    assert known["Softmax"] == [costs["Softmax"], NO_TIME]
    assert known["Linear"] == [costs["Linear"]] * 2
    assert asked == [(8, False, ["Softmax", "Linear"]), (16, True, ["Linear"])]
    *_, known = measure(tiny("--deadline", "40", "--budget", "0.1"))
    assert known["Softmax"] == [costs["Softmax"]] * 2
    assert asked[-1] == (16, True, ["Linear", "Softmax"])  # what holds least comes first


def test_growth_is_that_of_the_largest_lengths_with_a_figure():
    table = {"whole": [1.0, 2.0, 8.0], "short": [1.0, 4.0, float("nan")], "one": [1.0, float("nan"), float("nan")]}
    assert growth(table, [8, 16, 32]) == pytest.approx({"whole": 2.0, "short": 2.0})


def test_nothing_is_asked_of_an_empty_list():
    assert measure_length([], 8, tiny(), warm=True) == {}


@pytest.mark.parametrize(("window", "length"), [(8, 300), (8, 256), (128, 640), (129, 640), (1, 100)])
def test_the_window_of_blocks_is_a_band(window, length):
    mask = window_mask(window, length, torch.device("cpu"))
    index = torch.arange(length)
    seen = mask.mask_mod(0, 0, index[:, None], index)
    assert torch.equal(seen, band(length, window))
    blocks = mask.to_dense()[0, 0].bool()
    touched = torch.nn.functional.pad(seen, (0, -length % 128) * 2)
    assert torch.equal(blocks, touched.unflatten(0, (-1, 128)).unflatten(2, (-1, 128)).any(3).any(1))
