"""OpenML tables through its own client, with timeouts, a cache, and one-line errors."""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pandas as pd

from datamodules.tables.files import read_file
from tabattn.contract.errors import DataError

TIMEOUT = (10.0, 60.0)
"""Timeout in seconds of a connection, and of each read."""

TRIES = 2
"""Number of attempts of a request."""

NO_RESULT = (111, 372)
"""Error codes of the server for an unknown data set, and for an empty list of data sets."""


class Fetched(NamedTuple):
    """OpenML data set: name, columns, default target, and provenance in plain values."""

    name: str
    frame: pd.DataFrame
    target: str | None
    facts: dict[str, Any]


def fetch(name: str, cache_dir: str | Path | None = None) -> Fetched:
    """Fetch an OpenML data set, or read it from the cache without a request.

    Args:
        name: Id or name of the data set; of several with this name the oldest active one.
        cache_dir: Cache folder; none = ``$OPENML_CACHE_DIR``, else the client's default.

    Raises:
        DataError: It does not exist, cannot be fetched, or cannot be read.
    """
    with _client(cache_dir) as client:
        try:
            number = int(name) if name.isdecimal() else _number(client, name)
            dataset, frame = _read(client, number)
        except DataError:
            raise
        except Exception as ex:
            raise DataError(_explain(ex, client, name)) from ex
    ignored = [dataset.row_id_attribute, *_names(dataset.ignore_attribute)]
    targets = _names(dataset.default_target_attribute)
    facts = {
        "openml_id": number,
        "version": dataset.version,
        "md5": dataset.md5_checksum,
        "licence": dataset.licence,
        "url": dataset.url,
    }
    kept = frame.drop(columns=[column for column in ignored if column in frame.columns])
    return Fetched(dataset.name, kept, targets[0] if len(targets) == 1 else None, facts)


class _Damaged(DataError):
    """Cached file that has another checksum than announced, or cannot be read."""

    def __init__(self, path: Path, reason: DataError) -> None:
        super().__init__(str(reason))
        self.path = path

    def set_aside(self, number: int) -> Path:
        """Move the file out of its data set's folder, which the client empties if a download fails."""
        aside = self.path.parent.with_name(f"{number}.damaged{self.path.suffix}")
        os.replace(self.path, aside)
        return aside


def _read(client: Any, number: int) -> tuple[Any, pd.DataFrame]:
    """Description and columns of a data set; a damaged cached file is kept until another one is downloaded and read."""
    try:
        return _load(client, number)
    except _Damaged as ex:
        first, aside = ex, ex.set_aside(number)
    try:
        found = _load(client, number)
    except _Damaged as ex:
        aside = ex.set_aside(number)
        raise DataError(f"OpenML's data set {number} came damaged twice: {ex}; the file is kept as {aside}") from ex
    except Exception as ex:
        reason = _explain(ex, client, str(number))
        raise DataError(f"{reason}; the cached file is damaged ({first}) and kept as {aside}") from ex
    aside.unlink()
    return found


def _load(client: Any, number: int) -> tuple[Any, pd.DataFrame]:
    """Description and columns of a data set, from the cache, otherwise from the server.

    The client's own reading is left aside: it keeps pickles beside the files and loads them unchecked, and cannot
    read sparse files of nominal attributes with pandas 3.
    """
    folder = Path(client.config.get_cache_directory()) / "datasets" / str(number)
    cached = next(folder.glob("dataset*.pq"), None)
    with _environment(OPENML_SKIP_PARQUET=os.environ.get("OPENML_SKIP_PARQUET", "true")):
        dataset = client.datasets.get_dataset(number, download_data=cached is None)
    path = cached or Path(dataset.parquet_file or dataset.data_file)
    try:
        _check_md5(path, dataset.md5_checksum)
        return dataset, read_file(path)
    except DataError as ex:
        raise _Damaged(path, ex) from ex


def _check_md5(path: Path, announced: str | None) -> None:
    """Raise DataError if an ARFF file differs from the MD5 in its description; Parquet files have none."""
    if path.suffix == ".arff" and announced:
        found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if found != announced.lower():
            raise DataError(f"the MD5 of {path} is {found}, not the announced {announced}")


def _number(client: Any, name: str) -> int:
    """Id of a data set by its name: from the server, or from the cache if the server cannot be reached."""
    import requests

    try:
        found = client.datasets.list_datasets(data_name=name, output_format="dataframe")
    except (requests.ConnectionError, requests.Timeout):
        folders = Path(client.config.get_cache_directory()).glob("datasets/*/description.xml")
        title = re.compile(rf"<oml:name>\s*{re.escape(name)}\s*</oml:name>")
        cached = [int(path.parent.name) for path in folders if title.search(path.read_text(encoding="utf-8"))]
        if not cached:
            raise
        return min(cached)
    if found.empty:
        raise client.exceptions.OpenMLServerNoResult("no data set of this name", NO_RESULT[1])
    return int(found["did"].min())


@contextmanager
def _client(cache_dir: str | Path | None) -> Iterator[Any]:
    """Context with the configured client: cache folder, timeouts, attempts."""
    cache_dir = cache_dir or os.environ.get("OPENML_CACHE_DIR")
    # On import the client creates its folder: set the requested one first, not that in the home directory.
    with _environment(**({"OPENML_CACHE_DIR": str(cache_dir)} if cache_dir else {})):
        import openml
    from requests.adapters import HTTPAdapter

    send, config = HTTPAdapter.send, openml.config
    before = config._root_cache_directory, config.retry_policy, config.connection_n_retries
    root, quiet = logging.getLogger(), logging.NullHandler()

    def send_in_time(self: HTTPAdapter, *args: Any, **kwargs: Any) -> Any:
        return send(self, *args, **{**kwargs, "timeout": TIMEOUT})

    try:
        # The client has no timeout, and its warnings to the root logger would configure logging of the whole process.
        HTTPAdapter.send = send_in_time  # type: ignore[method-assign]
        root.addHandler(quiet)
        config.set_retry_policy("human", TRIES)
        if cache_dir:
            config.set_root_cache_directory(Path(cache_dir))
        yield openml
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]
        root.removeHandler(quiet)
        config.set_root_cache_directory(before[0])
        config.set_retry_policy(*before[1:])


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Context that sets environment variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _explain(ex: Exception, client: Any, name: str) -> str:
    """Describe an error in one line."""
    import requests

    host = urlsplit(client.config.server).netloc
    errors = client.exceptions
    if isinstance(ex, errors.OpenMLServerException) and ex.code in NO_RESULT:
        return f"data set {name} does not exist on OpenML ({host})"
    if isinstance(ex, errors.OpenMLHashException):
        return f"OpenML's data set {name} came damaged: its checksum is not the announced one, {TRIES} times"
    if isinstance(ex, requests.ReadTimeout):
        return f"OpenML ({host}) did not answer within {TIMEOUT[1]:g} seconds"
    if isinstance(ex, requests.ConnectionError):
        cache = client.config.get_cache_directory()
        return f"OpenML is not reachable ({host}). Offline? Put the data set into {cache}, or give a file as the source"
    if isinstance(ex, (errors.OpenMLPrivateDatasetError, errors.OpenMLNotAuthorizedError)):
        return f"OpenML ({host}) does not give data set {name} to everybody: an API key is needed"
    if isinstance(ex, errors.OpenMLServerError):
        code = getattr(ex, "code", None)
        status = f"code {code}" if code else re.search(r"Status code: \d+", ex.message) or "no valid answer"
        return f"OpenML ({host}) answered with an error: {status if isinstance(status, str) else status[0].lower()}"
    reason = str(ex).partition("\n")[0] or type(ex).__name__
    return f"OpenML's data set {name} cannot be fetched: {reason}"


def _names(attribute: Any) -> list[str]:
    """Column names in an attribute of the description, which has none, one, a list, or several in one text."""
    entries = [attribute] if isinstance(attribute, str) else attribute or []
    return [part.strip() for entry in entries for part in entry.split(",") if part.strip()]


class SuiteTask(NamedTuple):
    """Task of a suite: its id and kind, the id and name of its data set, its target, and stated sizes."""

    number: int
    kind: str
    data_set: int
    name: str
    target: str | None
    known: dict[str, float]


def suite(name: str, cache_dir: str | Path | None = None) -> list[SuiteTask]:
    """List the tasks of a suite of OpenML by three requests; data sets are not fetched.

    Args:
        name: Id or alias of the suite.
        cache_dir: Cache folder; none = ``$OPENML_CACHE_DIR``, else the client's default.

    Raises:
        DataError: It does not exist, is no suite of tasks, or cannot be fetched.
    """
    with _client(cache_dir) as client:
        try:
            numbers = client.study.get_suite(name).tasks or []
            if not numbers:
                raise DataError(f"OpenML's suite {name} has no tasks")
            listed = client.tasks.list_tasks(task_id=numbers, output_format="dataframe")
        except DataError:
            raise
        except Exception as ex:
            raise DataError(_explain(ex, client, name).replace("data set", "suite", 1)) from ex
    found = {int(line["tid"]): line for line in listed.to_dict("records")}
    if absent := [number for number in numbers if number not in found]:
        raise DataError(f"OpenML does not list task {absent[0]} of suite {name}")
    return [_suite_task(number, found[number]) for number in numbers]


def _suite_task(number: int, line: dict[str, Any]) -> SuiteTask:
    """Task from its line in OpenML's list, whose features count the target."""
    stated = {
        "rows": line.get("NumberOfInstances"),
        "features": line.get("NumberOfFeatures"),
        "classes": line.get("NumberOfClasses"),
        "smallest": line.get("MinorityClassSize"),
    }
    known = {name: float(value) for name, value in stated.items() if value is not None and pd.notna(value)}
    if "features" in known:
        known["features"] -= 1
    if known.get("rows") and "smallest" in known:
        known["minority"] = known["smallest"] / known["rows"]
    target = line.get("target_feature")
    named = str(target) if pd.notna(target) else None
    return SuiteTask(number, str(line["task_type"]), int(line["did"]), str(line["name"]), named, known)
