"""A real webhook receiver on loopback: keeps what it gets, answers what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from tests.waiting import wait_for


class Received(NamedTuple):
    """One request, as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded

    @property
    def type(self) -> str:
        return str(self.message["type"])


class Receiver:
    """`answer` says by the request which status it gets, with which headers; it may block."""

    def __init__(self, answer: Callable[[Received], tuple[int, Mapping[str, str]]] | None = None) -> None:
        self.received: list[Received] = []
        self.answer = answer or (lambda _: (204, {}))
        outer = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                headers = {key.lower(): value for key, value in self.headers.items()}
                got = Received(self.path, headers, body, self.client_address[0])
                outer.received.append(got)
                status, more = outer.answer(got)
                self.send_response(status)
                for key, value in more.items():
                    self.send_header(key, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of(self, kind: str) -> list[Received]:
        """What came of one kind, such as "run.finished"."""
        return [each for each in list(self.received) if each.type == kind]

    def wait(self, kind: str, count: int = 1, timeout_s: float = 45.0) -> list[Received]:
        wait_for(lambda: len(self.of(kind)) >= count, what=f"{count} of {kind} arrive", timeout_s=timeout_s)
        return self.of(kind)
