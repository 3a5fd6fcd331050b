"""A fake W&B server on this machine. It has the part of the protocol that a run needs, and it can fail on purpose."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = {"id": "e", "name": "me"}
PROJECT = {"id": "p", "name": "flows", "entity": ENTITY}
ANSWERS: dict[str, Any] = {
    "Viewer": {"viewer": {"id": "u", "username": "me", "email": "", "entity": "me", "flags": "{}"}},
    "RunResumeStatus": {"model": {**PROJECT, "bucket": None}},
    "ServerFeaturesQuery": {"serverInfo": {"features": []}},
    "RunStoppedStatus": {"project": {"run": {"stopped": False}}},
}


class WandbServer(ThreadingHTTPServer):
    """Answers runs until `failing` is set. The value is an HTTP status, or 0 for no answer at all."""

    daemon_threads = True

    def __init__(self, failing: int | None = None, last_answer: str | None = None, then: int = 500) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.failing = failing
        self.last_answer, self.then = last_answer, then
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *args: Any) -> None:
        """Print nothing if the client has gone."""

    def inputs(self, operation: str) -> list[dict[str, Any]]:
        """Return the variables of each request for an operation."""
        return [variables for name, variables in self.requests if name == operation]


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = json.loads(body) if self.path == "/graphql" else {}
        name, variables = query.get("operationName", self.path), query.get("variables") or {}
        failing = self.server.failing
        if self.server.last_answer is not None and self.server.last_answer in name:
            self.server.failing = self.server.then
        self.server.requests.append((name, variables))
        if failing == 0:
            self.server.closing.wait()
        elif failing is not None:
            self.answer(failing, {"errors": [{"message": "this project is closed"}]})
        else:
            self.answer(200, {"data": self.data(name, variables)})

    do_PUT = do_POST  # noqa: N815

    def data(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        if name == "UpsertBucket":
            bucket = {"id": "b", "name": variables.get("name"), "config": "{}", "project": PROJECT}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.server.url}/upload/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return ANSWERS.get(name, {})

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def wandb_server(failing: int | None = None, last_answer: str | None = None, then: int = 500) -> Iterator[WandbServer]:
    """Run a fake server.

    It fails from the start if `failing` is given. If `last_answer` is given, it fails with the status `then` after a
    request whose name contains `last_answer`.
    """
    with WandbServer(failing, last_answer, then) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()
