"""Local server with the interface of OpenML: datasets by id and name, as ARFF and Parquet."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

NAMESPACE = 'xmlns:oml="http://openml.org/openml"'

ARFF = b"""@relation weather
@attribute row numeric
@attribute sky {sunny, cloudy}
@attribute wind numeric
@attribute play {yes, no}
@data
1, sunny, 3, no
2, ?, 5, yes
3, cloudy, ?, no
4, cloudy, 1, yes
"""


class Answer(NamedTuple):
    """What a path answers: a body, its status, and seconds of silence before it."""

    body: bytes
    status: int = 200
    silence: float = 0


class Stub:
    """The server, what its paths answer, and the requests it got.

    Attributes:
        url: Address of its interface, as the client takes it.
        answers: What each path answers; an unknown path is an unknown data set.
        requests: Method and path of each request so far.
        released: Ends every silence.
    """

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.url = f"http://{self.host}/api/v1/xml"
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.released = threading.Event()

    def add(
        self, number: int, name: str = "weather", arff: bytes = ARFF, parquet: bytes | None = None, **changes: str
    ) -> None:
        """Serve a data set; ``changes`` are further or other elements of its description."""
        elements = {
            "id": str(number),
            "name": name,
            "version": "1",
            "format": "ARFF",
            "licence": "Public",
            "url": f"http://{self.host}/data/v1/download/{number}",
            "default_target_attribute": "play",
            "row_id_attribute": "row",
            "status": "active",
            "md5_checksum": hashlib.md5(arff).hexdigest(),
        }
        if parquet is not None:
            elements["parquet_url"] = f"http://{self.host}/datasets/{number}.pq"
            self.answers[f"/datasets/{number}.pq"] = Answer(parquet)
        described = "".join(f"<oml:{key}>{value}</oml:{key}>" for key, value in {**elements, **changes}.items())
        self.answers[f"/api/v1/xml/data/{number}"] = Answer(
            f"<oml:data_set_description {NAMESPACE}>{described}</oml:data_set_description>".encode()
        )
        self.answers[f"/data/v1/download/{number}"] = Answer(arff)
        quality = '<oml:quality name="NumberOfInstances">4</oml:quality>'
        listed = f"<oml:did>{number}</oml:did><oml:name>{name}</oml:name><oml:version>1</oml:version>"
        self.answers[f"/api/v1/xml/data/list/data_name/{name}/limit/10000/offset/0"] = Answer(
            f"<oml:data {NAMESPACE}><oml:dataset>{listed}<oml:status>active</oml:status>"
            f"{quality}{quality.replace('Instances', 'Classes')}</oml:dataset></oml:data>".encode()
        )

    def add_suite(self, number: int, tasks: list[dict[str, str]]) -> None:
        """Serve a suite; a task has ``task_id``, ``did``, ``name``, ``task_type``, its target and qualities."""
        numbers = [task["task_id"] for task in tasks]
        ids = "".join(f"<oml:task_id>{each}</oml:task_id>" for each in numbers)
        facts = {"id": number, "main_entity_type": "task", "name": "s", "description": "s", "status": "active"}
        facts |= {"creation_date": "2026", "creator": 1}
        told = "".join(f"<oml:{key}>{value}</oml:{key}>" for key, value in facts.items())
        self.answers[f"/api/v1/xml/study/{number}"] = Answer(
            f"<oml:study {NAMESPACE}>{told}<oml:tasks>{ids}</oml:tasks></oml:study>".encode()
        )
        listed = "".join(map(_task, tasks))
        self.answers[f"/api/v1/xml/task/list/task_id/{','.join(numbers)}/limit/10000/offset/0"] = Answer(
            f"<oml:tasks {NAMESPACE}>{listed}</oml:tasks>".encode()
        )
        procedure = "<oml:ttid>1</oml:ttid><oml:name>folds</oml:name><oml:type>crossvalidation</oml:type>"
        listed = "".join(
            f"<oml:estimationprocedure><oml:id>{each}</oml:id>{procedure}</oml:estimationprocedure>" for each in (1, 2)
        )
        self.answers["/api/v1/xml/estimationprocedure/list"] = Answer(
            f"<oml:estimationprocedures {NAMESPACE}>{listed}</oml:estimationprocedures>".encode()
        )


def _task(task: dict[str, str]) -> str:
    facts = {key: task[key] for key in ("task_id", "did", "name", "task_type")} | {"status": "active"}
    facts["task_type_id"] = "1" if "Classification" in task["task_type"] else "2"
    rest = {key: value for key, value in task.items() if key not in facts and key != "target_feature"}
    return (
        "<oml:task>"
        + "".join(f"<oml:{key}>{value}</oml:{key}>" for key, value in facts.items())
        + f'<oml:input name="target_feature">{task["target_feature"]}</oml:input>'
        + "".join(f'<oml:quality name="{key}">{value}</oml:quality>' for key, value in rest.items())
        + "</oml:task>"
    )


def error(code: int, message: str) -> bytes:
    """An error in the words of OpenML."""
    return (
        f"<oml:error {NAMESPACE}><oml:code>{code}</oml:code><oml:message>{message}</oml:message></oml:error>".encode()
    )


@contextmanager
def serve() -> Iterator[Stub]:
    """Run a server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            stub.requests.append(f"{self.command} {path}")
            answer = stub.answers.get(path)
            if answer is None:
                code = 372 if "/list/" in path else 111
                answer = Answer(error(code, "Unknown dataset"), 412)
            if answer.silence:
                stub.released.wait(answer.silence)
            self._send(answer, plain=path.startswith("/datasets/"))

        do_HEAD = do_GET

        def _send(self, answer: Answer, plain: bool) -> None:
            body = answer.body if plain else gzip.compress(answer.body)
            self.send_response(answer.status)
            if not plain:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked has stopped waiting
                    self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = Stub(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
