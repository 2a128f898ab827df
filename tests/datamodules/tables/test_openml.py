"""OpenML by its real client, against a local server: results and failures."""

import hashlib
import io
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import train  # noqa: F401  (makes the names of tasks and datamodules known)
from datamodules.tables import collections
from datamodules.tables import openml as source
from datamodules.tables.collections import load_frames
from datamodules.tables.sources import load_frame
from tabattn.contract.errors import DataError
from tabattn.training.cli import main
from tests.datamodules.tables.openml_stub import ARFF, Answer, Stub, error, serve

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def server() -> Iterator[Stub]:
    with serve() as stub:
        yield stub


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The client, imported where it makes its folders: not in the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("OPENML_CACHE_DIR", str(tmp_path_factory.mktemp("default")))
        return pytest.importorskip("openml")


@pytest.fixture
def stub(server: Stub, client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stub:
    """The server, with nothing on it, and an empty cache."""
    monkeypatch.setattr(client.config, "server", server.url)
    monkeypatch.setattr(client.config, "apikey", "")
    monkeypatch.setattr(source, "TRIES", 1)
    monkeypatch.setenv("OPENML_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENML_SKIP_PARQUET", raising=False)
    server.answers.clear()
    server.requests.clear()
    return server


def parquet() -> bytes:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame(
        {
            "row": [1, 2, 3, 4],
            "sky": pd.Categorical(["sunny", None, "cloudy", "cloudy"]),
            "wind": [3, 5, None, 1],
            "play": pd.Categorical(["no", "yes", "no", "yes"]),
        }
    )
    table.to_parquet(file := io.BytesIO())
    return file.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def failure(name: str) -> str:
    with pytest.raises(DataError) as caught:
        load_frame(f"openml:{name}")
    message = str(caught.value)
    assert "\n" not in message
    assert "<html" not in message
    return message


@pytest.mark.parametrize("name", ["7", "weather"])
@pytest.mark.parametrize("form", ["arff", "parquet"])
def test_a_data_set_by_id_and_by_name(stub: Stub, monkeypatch: pytest.MonkeyPatch, name: str, form: str) -> None:
    stub.add(7, parquet=parquet() if form == "parquet" else None)
    monkeypatch.setenv("OPENML_SKIP_PARQUET", "false")
    frame = load_frame(f"openml:{name}")
    assert frame.name == "weather"
    assert frame.x.columns.tolist() == ["sky", "wind"]
    assert frame.x["sky"].isna().tolist() == [False, True, False, False]
    assert frame.x["wind"].isna().tolist() == [False, False, True, False]
    assert frame.y.tolist() == ["no", "yes", "no", "yes"]
    assert frame.provenance["openml_id"] == 7
    assert frame.provenance["licence"] == "Public"
    assert ("GET /datasets/7.pq" in stub.requests) == (form == "parquet")


def test_parquet_is_left_aside_unless_asked_for(stub: Stub) -> None:
    stub.add(7, parquet=b"never read")
    load_frame("openml:7")
    assert not any("/datasets/" in request for request in stub.requests)


def test_the_cache_serves_without_a_request_and_holds_no_pickle(stub: Stub, tmp_path: Path) -> None:
    stub.add(7)
    first = load_frame("openml:7", cache_dir=tmp_path / "mine")
    stub.requests.clear()
    stub.answers.clear()
    second = load_frame("openml:7", cache_dir=tmp_path / "mine")
    assert stub.requests == []
    assert first.provenance == second.provenance
    assert not list(tmp_path.rglob("*.pkl*"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["31", "fruit"])
@pytest.mark.parametrize("form", ["arff", "parquet"])
def test_a_cache_filled_by_hand_serves_offline(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, client: Any, tmp_path: Path, name: str, form: str
) -> None:
    stub.add(31, "fruit")
    folder = tmp_path / "cache" / "org" / "openml" / "www" / "datasets" / "31"
    folder.mkdir(parents=True)
    (folder / "description.xml").write_bytes(stub.answers["/api/v1/xml/data/31"].body)
    (folder / ("dataset.arff" if form == "arff" else "dataset_31.pq")).write_bytes(
        ARFF if form == "arff" else parquet()
    )
    monkeypatch.setattr(client.config, "server", "https://www.openml.org/api/v1/xml")
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    assert load_frame(f"openml:{name}").y.tolist() == ["no", "yes", "no", "yes"]


def _no_network(*args: object, **kwargs: object) -> None:
    raise socket.gaierror(-2, "Name or service not known")


def test_no_server(stub: Stub, client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(client.config, "server", f"http://{host}/api/v1/xml")
        message = failure("7")
    assert message.startswith(f"OpenML is not reachable ({host}). Offline? Put the data set into {tmp_path}/cache")


def test_no_name_service(stub: Stub, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.config, "server", "http://openml.invalid/api/v1/xml")
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    assert failure("weather").startswith("OpenML is not reachable (openml.invalid)")


def test_a_server_that_hangs(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.add(7)
    stub.answers["/data/v1/download/7"] = Answer(ARFF, silence=30)
    monkeypatch.setattr(source, "TIMEOUT", (1, 0.2))
    assert failure("7") == f"OpenML ({stub.host}) did not answer within 0.2 seconds"


@pytest.mark.parametrize("name", ["8", "wether"])
def test_an_unknown_data_set(stub: Stub, name: str) -> None:
    stub.add(7)
    assert failure(name) == f"data set {name} does not exist on OpenML ({stub.host})"


def test_a_checksum_that_does_not_match(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub.add(7, md5_checksum="0" * 32)
    monkeypatch.setattr(source, "TRIES", 2)
    monkeypatch.setattr("openml._api_calls.time.sleep", lambda seconds: None)
    assert failure("7").startswith("OpenML's data set 7 came damaged: its checksum is not the announced one")
    assert stub.requests.count("GET /data/v1/download/7") == 2
    assert not list(tmp_path.rglob("dataset.arff"))


def test_a_page_in_the_place_of_an_answer(stub: Stub) -> None:
    stub.answers["/api/v1/xml/data/7"] = Answer(b"<html><body><hr>\n502 Bad Gateway<hr></body></html>", 502)
    assert failure("7") == f"OpenML ({stub.host}) answered with an error: status code: 502"


def test_a_data_set_that_is_not_public(stub: Stub) -> None:
    stub.answers["/api/v1/xml/data/7"] = Answer(error(112, "No access granted"), 412)
    assert failure("7") == f"OpenML ({stub.host}) does not give data set 7 to everybody: an API key is needed"


def test_parquet_that_is_cut_short_is_fetched_once_more(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = parquet()
    stub.add(7, parquet=whole[:-40])
    monkeypatch.setenv("OPENML_SKIP_PARQUET", "false")
    assert failure("7").startswith("OpenML's data set 7 came damaged twice: ")
    assert stub.requests.count("GET /datasets/7.pq") == 2
    (kept,) = tmp_path.rglob("7.damaged.pq")
    assert kept.read_bytes() == whole[:-40]
    stub.answers["/datasets/7.pq"] = Answer(whole)
    assert len(load_frame("openml:7").x) == 4


def test_a_damaged_file_in_the_cache_is_replaced(stub: Stub, tmp_path: Path) -> None:
    stub.add(7)
    load_frame("openml:7")
    (path,) = tmp_path.rglob("dataset.arff")
    path.write_text("@relation cut short")
    assert len(load_frame("openml:7").x) == 4
    assert stub.requests.count("GET /data/v1/download/7") == 2


def test_a_changed_digit_in_the_cache_is_noticed(stub: Stub, tmp_path: Path) -> None:
    stub.add(7)
    load_frame("openml:7")
    (path,) = tmp_path.rglob("dataset.arff")
    path.write_bytes(ARFF.replace(b"sunny, 3", b"sunny, 8"))
    assert load_frame("openml:7").x["wind"].tolist()[0] == 3
    assert path.read_bytes() == ARFF
    path.write_bytes(ARFF.replace(b"sunny, 3", b"sunny, 8"))
    assert not list(tmp_path.rglob("*.damaged*"))


@pytest.mark.parametrize("again", ["no file", "no server"])
def test_a_damaged_file_is_kept_where_no_other_can_be_fetched(stub: Stub, tmp_path: Path, again: str) -> None:
    stub.add(7)
    load_frame("openml:7")
    (path,) = tmp_path.rglob("dataset.arff")
    changed = ARFF.replace(b"sunny, 3", b"sunny, 8")
    path.write_bytes(changed)
    answers = dict(stub.answers)
    if again == "no file":
        del stub.answers["/data/v1/download/7"]
    else:
        stub.answers.clear()
    message = failure("7")
    (kept,) = tmp_path.rglob("7.damaged.arff")
    assert message.endswith(
        f"is damaged (the MD5 of {path} is {md5(changed)}, not the announced {md5(ARFF)}) and kept as {kept}"
    )
    assert kept.read_bytes() == changed
    stub.answers.update(answers)
    assert load_frame("openml:7").x["wind"].tolist()[0] == 3


def test_a_sparse_data_set_with_nominal_attributes(stub: Stub) -> None:
    head = b"@relation s\n@attribute a numeric\n@attribute b {zero, one}\n@attribute play {x, y}\n"
    arff = head + b"@data\n{0 1, 2 y}\n{1 one}\n"
    stub.add(7, arff=arff, format="Sparse_ARFF")
    frame = load_frame("openml:7")
    assert frame.x["a"].tolist() == [1, 0]
    assert frame.x["b"].tolist() == ["zero", "one"]
    assert frame.y.tolist() == ["y", "x"]


def test_a_data_set_without_a_target_asks_for_one(stub: Stub) -> None:
    stub.add(7, default_target_attribute="")
    with pytest.raises(ValueError, match="openml:7 proposes no target: name one as openml:7::<column>; columns: sky"):
        load_frame("openml:7")
    assert load_frame("openml:7::play").provenance["target"] == "play"


def test_nothing_of_the_process_is_changed(stub: Stub, client: Any) -> None:
    stub.add(7)
    before = (
        dict(os.environ),
        logging.getLogger().handlers[:],
        client.config._root_cache_directory,
        client.config.connection_n_retries,
    )
    load_frame("openml:7", cache_dir=str(client.config._root_cache_directory) + "2")
    failure("8")
    assert before == (
        dict(os.environ),
        logging.getLogger().handlers[:],
        client.config._root_cache_directory,
        client.config.connection_n_retries,
    )


def test_the_command_line_says_it_in_one_line(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", f"{ROOT}/configs/prior.yaml", "--data", "TableTasks", "--data.source=openml:7"]
    assert main(["validate", *arguments]) == 3
    assert capsys.readouterr().err.endswith(f"error: data set 7 does not exist on OpenML ({stub.host})\n")


@pytest.mark.slow
def test_a_command_ends_with_status_3_and_leaves_home_alone(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "config" / "openml").mkdir(parents=True)
    (tmp_path / "config" / "openml" / "config").write_text(f"server={stub.url}\n")
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    command = [sys.executable, "-m", "datamodules.dump", "--source", "openml:7", "--cache-dir", str(tmp_path / "cache")]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **home}, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (3, f"error: data set 7 does not exist on OpenML ({stub.host})\n")
    assert not (tmp_path / "home" / ".cache" / "openml").exists()


def task(number: int, name: str, rows: int = 4, features: int = 4, **changes: str) -> dict[str, str]:
    sizes = {"NumberOfInstances": rows, "NumberOfFeatures": features, "NumberOfClasses": 2, "MinorityClassSize": 2}
    known = {"task_id": f"{number + 100}", "did": f"{number}", "name": name, "target_feature": "play"}
    return {**known, "task_type": "Supervised Classification", **{k: str(v) for k, v in sizes.items()}, **changes}


def test_a_suite_is_several_tables_with_the_targets_of_its_tasks(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(collections, "rank_zero_info", said.append)
    for number, name in enumerate(["weather", "large", "house", "weather"], 7):
        stub.add(number, name)
    house = task(9, "house", task_type="Supervised Regression")
    stub.add_suite(
        457,
        [
            task(7, "weather"),
            task(8, "large", rows=5000),
            house,
            task(7, "weather", task_id="111"),
            task(10, "weather"),
        ],
    )
    frames = list(load_frames("openml:suite/457:rows=..2000:features=2..3:minority=.5:classes=2"))
    assert [frame.name for frame in frames] == ["weather (7)", "weather (10)"]
    assert said == [
        "large of openml:suite/457 is left out: its number of rows is 5000, not rows=..2000",
        "house of openml:suite/457 is left out: OpenML's task 109 is Supervised Regression",
        "weather (7) of openml:suite/457 is left out: its data set and target are those of another task",
        "2 of the 5 tables of openml:suite/457 are taken",
    ]
    assert not any("/8" in request or "/9" in request for request in stub.requests if "download" in request)


def test_a_suite_of_which_nothing_passes(stub: Stub) -> None:
    stub.add(7)
    stub.add_suite(457, [task(7, "weather")])
    with pytest.raises(ValueError, match=r"none of the 1 tables of openml:suite/457 passes rows=5\.\.:classes=2$"):
        list(load_frames("openml:suite/457:rows=5..:classes=2"))
    assert not any("download" in request for request in stub.requests)
    with pytest.raises(ValueError, match="openml:suite/457 is several tables, where one is asked for"):
        load_frame("openml:suite/457")
    with pytest.raises(DataError, match=r"suite 458 does not exist on OpenML"):
        list(load_frames("openml:suite/458"))
