"""Sources of real tables, and one-line messages for those that cannot be read."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.tables.real import fold_batches, load_table, load_tables, stratified_rows
from datamodules.tables.sources import content_hash, load_frame
from tabattn.contract.errors import DataError

ARFF = """% a comment
@RELATION small
@ATTRIBUTE size NUMERIC
@ATTRIBUTE 'the colour' {red, green, blue}
@ATTRIBUTE note STRING
@ATTRIBUTE class {yes, no}
@DATA
1, red, 'a b', no
?, blue, c, yes
3, ?, c, no
"""

SPARSE = """@relation sparse
@attribute a numeric
@attribute b {zero, one}
@attribute class {x, y}

@data
{0 1.5, 2 y}
{1 one}
{0 2}
"""

CSV = "a,b,label\n1, x,no\n2,?,yes\n3,NA,no\n,None,yes\n"


def write(path: Path, text: str) -> str:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.CSV", "t.tsv"])
def test_csv(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / name, CSV.replace(",", "\t") if "tsv" in name else CSV)
    frame = load_frame(source)
    assert frame.name == "t"
    assert frame.x["a"].tolist()[:3] == [1, 2, 3]
    assert frame.x["b"].isna().tolist() == [False, True, True, False]
    assert frame.x["b"].iloc[0] == "x"
    assert frame.y.tolist() == ["no", "yes", "no", "yes"]
    assert frame.categorical == ("b",)


@pytest.mark.parametrize("name", ["t.arff", "t.arff.gz"])
def test_arff(tmp_path: Path, name: str) -> None:
    frame = load_frame(write(tmp_path / name, ARFF))
    assert frame.x["size"].isna().tolist() == [False, True, False]
    assert frame.x["the colour"].cat.categories.tolist() == ["red", "green", "blue"]
    assert frame.x["note"].tolist() == ["a b", "c", "c"]
    assert frame.y.cat.codes.tolist() == [1, 0, 1]
    assert frame.categorical == ("the colour", "note")


def test_sparse_arff(tmp_path: Path) -> None:
    frame = load_frame(write(tmp_path / "t.arff", SPARSE))
    assert frame.x["a"].tolist() == [1.5, 0, 2]
    assert frame.x["b"].tolist() == ["zero", "one", "zero"]
    assert frame.y.tolist() == ["y", "x", "x"]


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"a": [1.0, None], "b": pd.Categorical(["x", "y"]), "label": [1, 2]})
    table.to_parquet(tmp_path / "t.parquet")
    frame = load_frame(f"{tmp_path}/t.parquet")
    assert frame.x["a"].isna().tolist() == [False, True]
    assert frame.x["b"].tolist() == ["x", "y"]
    assert frame.y.tolist() == [1, 2]


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise ImportError

    monkeypatch.setattr(pd, "read_parquet", absent)
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"t\.parquet needs pyarrow to be read: pip install 'tabattn\[parquet\]'"):
        load_frame(f"{tmp_path}/t.parquet")


def test_the_target_is_named_by_the_source_or_by_an_argument(tmp_path: Path) -> None:
    source = write(tmp_path / "t.csv", "a,b,c\n1,2,3\n4,5,6\n")
    assert load_frame(f"{source}::a").y.tolist() == load_frame(source, "a").y.tolist() == [1, 4]
    assert load_frame(f"{source}::a", "a").x.columns.tolist() == ["b", "c"]
    assert load_frame(source).provenance["target"] == "c"
    with pytest.raises(ValueError, match=r"two targets were given .* 'a' and 'b'"):
        load_frame(f"{source}::a", "b")


def test_provenance_is_plain_and_follows_the_content(tmp_path: Path) -> None:
    first = load_frame(write(tmp_path / "a.csv", CSV)).provenance
    assert {name: first[name] for name in ("target", "rows", "features", "classes", "file")} == {
        "target": "label",
        "rows": 4,
        "features": 2,
        "classes": 2,
        "file": "a.csv",
    }
    assert {type(value) for value in first.values()} <= {str, int}
    second = load_frame(write(tmp_path / "b.csv.gz", CSV)).provenance
    changed = load_frame(write(tmp_path / "c.csv", CSV.replace("3", "4"))).provenance
    assert first["sha256"] == second["sha256"] != changed["sha256"]


def test_the_hash_sees_what_is_missing_and_what_it_is_called() -> None:
    frames = [pd.DataFrame({"a": cells}) for cells in ([1.0, None], [None, 1.0])] + [pd.DataFrame({"b": [1.0, None]})]
    assert len({content_hash(frame) for frame in frames}) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sklearn:irsi", r"no table is called 'sklearn:irsi' \(did you mean 'iris'\?\); known: sklearn:breast_cancer"),
        (
            "sklern:iris",
            "a source is sklearn:<name>, openml:<id or name>, poker:<hands> or a file",
        ),
        ("openml:", "openml: needs the id or the name of a data set"),
        ("nowhere.csv", "there is no file nowhere.csv"),
        ("", "a table must be sklearn:<name>, openml:<id or name>, poker:<hands> or a file, got ''"),
    ],
)
def test_a_wrong_source_is_refused(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_frame(source)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        (CSV, "lable", r"has no column 'lable' \(did you mean 'label'\?\); columns: a, b, label"),
        (CSV, "a", "target 'a' of .* has no label in 1 of 4 rows"),
        ("a,b\n1,x\n2,x\n", None, "target 'b' of .* has a single class, 'x'"),
        ("b\nx\ny\n", None, "has no column but its target 'b'"),
    ],
)
def test_a_wrong_target_is_refused(tmp_path: Path, text: str, target: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_frame(write(tmp_path / "t.csv", text), target)


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no known suffix: tables are \.csv, \.tsv, \.arff, \.parquet"):
        load_frame(write(tmp_path / "t.xlsx", "a"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "cannot be read: No columns"),
        ("t.csv", b"a,b\n", "holds no rows"),
        ("t.csv", b"\xff\xfe\x00,b\n1,2\n", "is not a text file in UTF-8"),
        ("t.csv.gz", b"plain", "cannot be read: Not a gzipped file"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-12], "cannot be read: "),
        ("t.arff", b"@relation x\n@attribute a colour\n@data\n1\n", "cannot be read: "),
        ("t.arff", ARFF.replace("red, 'a", "mauve, 'a").encode(), "cannot be read: "),
    ],
)
def test_a_damaged_file_gives_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_frame(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_table_as_numbers(tmp_path: Path) -> None:
    table = load_table(write(tmp_path / "t.csv", CSV))
    assert table.features == ("a", "b")
    assert table.categorical.tolist() == [False, True]
    assert table.classes == ("no", "yes")
    np.testing.assert_array_equal(table.x, np.array([[1, 1], [2, np.nan], [3, np.nan], [np.nan, 0]], np.float32))
    assert table.y.tolist() == [0, 1, 0, 1]


def test_folds_know_only_the_categories_of_their_context(tmp_path: Path) -> None:
    rows = "".join(f"{letter},{number % 2},{number % 2}\n" for number, letter in enumerate("abcdefgh"))
    table = load_table(write(tmp_path / "t.csv", f"letter,number,label\n{rows}"))
    for batch in fold_batches(table, 0, 4, 0):
        letters = batch.x[0, :, 0]
        assert letters[: batch.context].sort().values.tolist() == list(range(6))
        assert letters[batch.context :].isnan().all()


def test_a_column_constant_in_a_context_is_silent_in_its_place(tmp_path: Path) -> None:
    rows = "".join(f"{number},{int(number == 3)},{number},{number % 2}\n" for number in range(8))
    table = load_table(write(tmp_path / "t.csv", f"a,rare,b,label\n{rows}"))
    silent = [batch for batch in fold_batches(table, 0, 4, 0) if not batch.x[0, :, 1].any()]
    assert len(silent) == 1
    assert silent[0].x.shape[2] == 3
    torch_columns = silent[0].x[0, :, [0, 2]]
    assert torch_columns.any(0).all()


def test_large_tables_are_sampled_by_class() -> None:
    table = stratified_rows(load_table("sklearn:iris"), 30, 0)
    assert np.bincount(table.y).tolist() == [10, 10, 10]


def test_tables_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different names, got 'iris' twice"):
        load_tables(("sklearn:iris", "sklearn:iris"), 100, 0)


def test_a_table_without_a_telling_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"every column of .* is constant"):
        load_table(write(tmp_path / "t.csv", "a,b\n1,x\n1,y\n"))
