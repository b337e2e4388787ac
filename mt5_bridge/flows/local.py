"""The bridge's own door on this PC: `mt5-bridge status | stop | resume` over loopback TCP.

One JSON line in (`token`, `command`, `params`), one out. Port and token stand in `DATA_DIR/control.json`, which only
the owner may read.
"""

import asyncio
import hmac
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from loguru import logger

from mt5_bridge.core.halt import Origin
from mt5_bridge.core.times import iso
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.commands import Commands
from mt5_bridge.flows.emergency import Emergency, StopOptions
from mt5_bridge.flows.latch import HaltLatch

CONTROL_FILE = "control.json"
_LINE_MAX = 65_536
_READ_S = 5.0
_CLOSE_S = 0.5

Params = dict[str, Any]


class LocalControl:
    """Serves the commands of the person at this PC.

    Args:
        data_dir: where the port and the token are told.
        status: the health report.
    """

    def __init__(
        self,
        data_dir: Path,
        latch: HaltLatch,
        emergency: Emergency,
        commands: Commands,
        *,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._file = data_dir / CONTROL_FILE
        self._latch = latch
        self._emergency = emergency
        self._commands = commands
        self._status = status
        self._token = secrets.token_urlsafe(24)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[Params], Awaitable[dict[str, Any]]]] = {
            "status": self._do_status,
            "stop": self._do_stop,
            "resume": self._do_resume,
        }

    async def open(self) -> None:
        """Listen on a free loopback port and tell it in the control file.

        Raises:
            OSError: the file or the port cannot be had.
        """
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LINE_MAX)
        port = self._server.sockets[0].getsockname()[1]
        fresh = self._file.with_suffix(".new")
        fresh.unlink(missing_ok=True)  # one that an earlier life left may be readable for others
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            json.dump({"port": port, "token": self._token, "pid": os.getpid()}, out)
        fresh.replace(self._file)

    async def close(self) -> None:
        """Stop listening and take the control file away."""
        self._file.unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            async with asyncio.timeout(_READ_S):
                line = await reader.readline()
            writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ValueError, OSError) as error:
            logger.bind(event="local_request_failed").debug("Local request failed: {error}", error=error)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            token, command, params = str(request["token"]), str(request["command"]), request.get("params") or {}
        except (ValueError, KeyError, TypeError, RecursionError):
            return _failed("invalid", "the request is not one JSON line with token and command")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
            return _failed("forbidden", "the token does not match")
        handler = self._handlers.get(command)
        if handler is None or not isinstance(params, dict):
            return _failed("unknown_command", f"unknown command {command[:60]!r}")
        try:
            return {"success": True, "data": await handler(params)}
        except Refusal as refusal:
            return _failed(refusal.code, str(refusal))

    async def _do_status(self, params: Params) -> dict[str, Any]:
        return self._status()

    async def _do_stop(self, params: Params) -> dict[str, Any]:
        defaults = self._emergency.defaults
        options = StopOptions(
            cancel_orders=bool(params.get("cancel_orders", defaults.cancel_orders)),
            close_positions=bool(params.get("close_positions", defaults.close_positions)),
            scope="mine" if params.get("scope", defaults.scope) == "mine" else "all",
        )
        halt, durable = self._emergency.stop(
            reason=str(params.get("reason") or "emergency stop"),
            by=str(params.get("by") or "local"),
            origin=Origin.LOCAL,
            options=options,
        )
        return {
            "state": halt.state.value,
            "reason": halt.reason,
            "by": halt.by,
            "at": iso(halt.at_msc),
            "durable": await self._latch.durable_within(durable),
        }

    async def _do_resume(self, params: Params) -> dict[str, Any]:
        reason, by = str(params.get("reason") or ""), str(params.get("by") or "local")
        if not reason:
            raise Refusal("invalid_params", "a reason is needed to resume")
        return await self._commands.resume(reason, by, force=bool(params.get("force")), origin=Origin.LOCAL)


def _failed(code: str, message: str) -> dict[str, Any]:
    return {"success": False, "error": {"code": code, "message": message}}
