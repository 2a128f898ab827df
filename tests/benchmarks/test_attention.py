import pytest
import torch

from benchmarks.attention import arguments, growth, main, measure
from benchmarks.measure import peak_bytes

LINEAR = ["Local", "Pooling", "Inducing", "Linear", "TopK", "Entmax"]


def test_peak_counts_what_is_held_at_one_time():
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
    _, mebibytes = measure(options)
    exponents = growth(mebibytes, options.lengths)
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
    ] * 2


def test_bad_numbers_are_refused(capsys):
    for argv, message in ((["--lengths", "0"], "lengths must be at least 1, got 0"), (["--repeats", "0"], "got 0")):
        with pytest.raises(SystemExit):
            arguments(argv)
        assert message in capsys.readouterr().err
