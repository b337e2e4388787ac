"""Stands in for the daemon's local door: answers one JSON line a connection."""

import json
import os
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Answer = Callable[[dict[str, Any]], bytes]


class Door:
    """Listens on loopback and writes the control file.

    Args:
        control: the control file.
        answer: the line that answers a request.

    Attributes:
        requests: what came.
    """

    def __init__(self, control: Path, answer: Answer) -> None:
        self.requests: list[dict[str, Any]] = []
        door = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                request = json.loads(self.rfile.readline())
                door.requests.append(request)
                self.wfile.write(answer(request))

        self._server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._control = control

    def __enter__(self) -> Self:
        self._thread.start()
        self._control.parent.mkdir(parents=True, exist_ok=True)
        port = self._server.server_address[1]
        self._control.write_text(json.dumps({"port": port, "token": "t0ken", "pid": os.getpid()}), encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
