"""Talks to the daemon on this PC through loopback TCP: one JSON line there, one back."""

import socket
from pathlib import Path
from typing import Any

import msgspec

from mt5_bridge.core.errors import BridgeError

CONNECT_S = 2.0
ANSWER_S = 10.0
_MAX_ANSWER = 8 * 2**20


class Door(msgspec.Struct, frozen=True):
    """What the daemon wrote to its control file."""

    port: int
    token: str
    pid: int


class Answer(msgspec.Struct, frozen=True):
    """The daemon's answer; `data` when it succeeded, else `error` with `code` and `message`."""

    success: bool
    data: Any = None
    error: dict[str, Any] | None = None


class NotRunning(BridgeError):
    """No daemon answers for this folder."""


def ask(control: Path, command: str, params: dict[str, Any] | None = None) -> Answer:
    """Sends a command to the daemon that runs on the folder of `control`.

    Args:
        control: its control file, `DATA_DIR/control.json`.
        command: `status`, `stop` or `resume`.
        params: of the command.

    Raises:
        NotRunning: there is no daemon, or it does not answer within seconds.
    """
    try:
        door = msgspec.json.decode(control.read_bytes(), type=Door)
    except FileNotFoundError:
        raise NotRunning("no bridge runs on this folder") from None
    except (OSError, msgspec.DecodeError) as error:
        raise NotRunning(f"{control.name} cannot be read: {error}") from error
    request = msgspec.json.encode({"token": door.token, "command": command, "params": params or {}})
    try:
        with socket.create_connection(("127.0.0.1", door.port), CONNECT_S) as connection:
            connection.settimeout(ANSWER_S)
            connection.sendall(request + b"\n")
            line = _read_line(connection)
        return msgspec.json.decode(line, type=Answer)
    except (OSError, msgspec.DecodeError) as error:
        raise NotRunning(f"the bridge (process {door.pid}) does not answer: {error}") from error


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < _MAX_ANSWER:
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    return bytes(received)
