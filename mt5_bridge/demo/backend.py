"""The reference backend: a WebSocket server for bridges, a reader of their topics, on request a sender of demo signals.

One port, one token, four doors:
    /dashboard  speaks as the gateway's WebSocket does; a viewer's token opens it for reading only
    /operator   takes a command as a frame, passes it to every connected bridge, answers with their answers
    /watch      sends what was seen so far, as a snapshot, four times a second
    any other   is for bridges
"""

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import msgspec
from loguru import logger
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.http11 import Request, Response

from mt5_bridge.client import BridgeConnection, BridgeTopics, Frame, bearer
from mt5_bridge.core.errors import BrokerError, ChannelClosedError
from mt5_bridge.demo import signals
from mt5_bridge.demo.hub import EVERYTHING, Hub
from mt5_bridge.demo.lifetime import asked_to_stop
from mt5_bridge.demo.observed import Observed

WATCH_INTERVAL = 0.25
ANSWER_TIMEOUT = 10.0
MAX_FRAME = 8 << 20


class BackendConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the backend is started with.

    Attributes:
        host, port: where to listen; port 0 takes a free one.
        token: what bridges and operators must bring.
        bootstrap: the broker; empty: everything goes over the WebSocket.
        signal_interval: seconds between two demo signals; None sends none.
        seed: of the demo signals.
        hmac_key: signals on the topic are signed with it.
        viewer_token: opens `/dashboard`, for reading only.
    """

    host: str
    port: int
    token: str
    bootstrap: str = ""
    signal_interval: float | None = None
    seed: int = 1
    hmac_key: str | None = None
    viewer_token: str | None = None


class ReferenceBackend:
    """The backend as an object; `run` serves until told to stop.

    Attributes:
        observed: what was seen.
        address: `host:port` once it listens.
    """

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self.observed = Observed()
        self.address = ""
        self._bridges: dict[int, BridgeConnection] = {}
        self._topics: BridgeTopics | None = None
        tokens = {config.token: EVERYTHING}
        if config.viewer_token:
            tokens[config.viewer_token] = frozenset({"read"})
        self._hub = Hub(tokens, self._ask_for_watcher)
        self._bearer = bearer(config.token)

    async def run(self, stop: asyncio.Event, listening: asyncio.Event | None = None) -> None:
        """Serve until `stop`.

        Raises:
            OSError: the port is taken.
        """
        config = self._config
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(
                serve(
                    self._door,
                    config.host,
                    config.port,
                    process_request=self._let_in,
                    max_size=MAX_FRAME,
                    compression=None,
                    ping_interval=5,
                    ping_timeout=5,
                    close_timeout=1,
                )
            )
            self.address = f"{config.host}:{next(iter(server.sockets)).getsockname()[1]}"
            tasks = await stack.enter_async_context(_cancelled_at_exit())
            if config.bootstrap:
                self._topics = await stack.enter_async_context(
                    BridgeTopics(config.bootstrap, start="earliest", hmac_key=config.hmac_key)
                )
                dead = await stack.enter_async_context(BridgeTopics(config.bootstrap, start="earliest"))
                tasks.append(asyncio.create_task(self._read(self._topics), name="backend-topics"))
                tasks.append(asyncio.create_task(self._read_dead_letters(dead), name="backend-dead-letters"))
            if config.signal_interval is not None:
                tasks.append(asyncio.create_task(self._send_signals(config.signal_interval), name="backend-signals"))
            if listening is not None:
                listening.set()
            await _first_of(stop, tasks)

    def _let_in(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.path == "/dashboard" and self._hub.scopes(request.headers.get("Authorization", "")) is not None:
            return None
        return self._bearer(socket, request)

    async def _door(self, socket: ServerConnection) -> None:
        path = socket.request.path if socket.request else "/"
        try:
            if path == "/operator":
                await self._serve_operator(socket)
            elif path == "/dashboard":
                authorization = socket.request.headers.get("Authorization", "") if socket.request else ""
                await self._hub.serve(socket, self._hub.scopes(authorization) or frozenset())
            elif path == "/watch":
                await self._serve_watcher(socket)
            else:
                await self._serve_bridge(socket)
        except ConnectionClosed:
            return

    async def _serve_bridge(self, socket: ServerConnection) -> None:
        number = id(socket)
        bridge = BridgeConnection(socket, partial(self._on_frame, number))
        self._bridges[number] = bridge
        try:
            await bridge.run()
        finally:
            del self._bridges[number]
            self.observed.bridges.pop(number, None)
            if not self._bridges:
                self._hub.left()
            logger.bind(event="bridge_left").info("Bridge left")

    def _on_frame(self, number: int, frame: Frame) -> None:
        if frame.type == "hello" and isinstance(frame.data, dict):
            self.observed.bridges[number] = frame.data
            self._hub.joined(frame.data)
            logger.bind(event="bridge_joined").info("Bridge {name} joined", name=frame.data.get("bridge_id"))
        self.observed.on_frame(frame, _now_ms())
        self._hub.take(frame.type, frame.data, frame.event_id)

    async def _serve_watcher(self, socket: ServerConnection) -> None:
        while True:
            await socket.send(msgspec.json.encode(self.observed.snapshot(_now_ms())), text=True)
            await asyncio.sleep(WATCH_INTERVAL)

    async def _serve_operator(self, socket: ServerConnection) -> None:
        async for raw in socket:
            try:
                order = msgspec.json.decode(raw, type=Frame)
            except msgspec.DecodeError as error:
                await socket.send(json.dumps({"type": "error", "data": {"code": "invalid", "message": str(error)}}))
                continue
            await socket.send(msgspec.json.encode(await self._pass_on(order)), text=True)

    async def _pass_on(self, order: Frame) -> dict[str, Any]:
        """A command to every bridge; the answers in one `command_result`."""
        logger.bind(event="operator_command", command=order.type).info("Operator: {command}", command=order.type)
        if order.type == "emergency_stop":
            self.observed.on_stop_sent(_now_ms())
        answers = await asyncio.gather(*(self._ask(bridge, order) for bridge in list(self._bridges.values())))
        data: dict[str, Any] = {
            "command": order.type,
            "success": bool(answers) and all(answer.get("success") for answer in answers),
            "data": answers,
        }
        if not answers:
            data["error"] = {"code": "no_bridge", "message": "no bridge is connected"}
        return {"type": "command_result", "request_id": order.request_id, "data": data}

    async def _ask(self, bridge: BridgeConnection, order: Frame, request_id: str | None = None) -> dict[str, Any]:
        name = {"bridge_id": (bridge.hello or {}).get("bridge_id")}
        try:
            frame = await bridge.ask(order.type, order.data, request_id=request_id, timeout=ANSWER_TIMEOUT)
        except (ChannelClosedError, TimeoutError) as error:
            text = str(error) or f"no answer within {ANSWER_TIMEOUT:g} s"
            return {**name, "success": False, "error": {"code": "no_answer", "message": text}}
        answer = frame.data
        return {**name, **(answer if isinstance(answer, dict) else {"success": False, "data": answer})}

    async def _ask_for_watcher(self, command: str, data: Any, request_id: str | None) -> dict[str, Any]:
        """A watcher's command to the bridge; a stop to every bridge."""
        bridges = list(self._bridges.values())
        if not bridges:
            error = {"code": "no_bridge", "message": "no bridge is connected to the backend"}
            return {"command": command, "success": False, "error": error}
        if command == "emergency_stop":
            self.observed.on_stop_sent(_now_ms())
        asked = bridges if command == "emergency_stop" else bridges[:1]
        answers = await asyncio.gather(
            *(self._ask(bridge, Frame(type=command, data=data), request_id) for bridge in asked)
        )
        failed = [answer for answer in answers if not answer.get("success")]
        return {"command": command, **(failed or answers)[0]}

    async def _read(self, topics: BridgeTopics) -> None:
        async with aclosing(topics.messages()) as messages:
            async for message in messages:
                self.observed.on_message(message, _now_ms())
                self._hub.take(message.type, message.data, message.event_id)

    async def _read_dead_letters(self, topics: BridgeTopics) -> None:
        async with aclosing(topics.messages([topics.names.dead_letters])) as messages:
            async for message in messages:
                self.observed.on_dead_letter(message, _now_ms())

    async def _send_signals(self, interval: float) -> None:
        random = Random(self._config.seed)  # noqa: S311 - a demo's choices, reproducible from its seed
        run = f"demo-{_now_ms():x}"
        step = 0
        while True:
            await asyncio.sleep(interval)
            situation = self.observed.situation(_now_ms())
            if not self.observed.bridges or not situation.prices:
                continue
            draft = signals.draft(step, run, random, situation)
            step += 1
            self.observed.on_sent(draft, _now_ms())
            try:
                await self._send(draft)
            except (BrokerError, ChannelClosedError) as error:
                logger.bind(event="signal_not_sent").warning("Signal not sent: {error}", error=error)

    async def _send(self, draft: signals.Draft) -> None:
        if self._topics is not None:
            await self._topics.send_raw(draft.value, key=draft.symbol)
        else:
            for bridge in list(self._bridges.values()):
                await bridge.send(draft.value)


@asynccontextmanager
async def _cancelled_at_exit() -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks: list[asyncio.Task[None]] = []
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first_of(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the event; a task that ends before it is a defect and is raised."""
    stopped = asyncio.create_task(stop.wait(), name="backend-stop")
    try:
        done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()
    finally:
        stopped.cancel()


def open_door(address: str, token: str, door: str) -> connect:
    """A connection to `/operator`, `/watch` or `/dashboard` of a running backend; use it with `async with`."""
    return connect(
        f"ws://{address}/{door}",
        additional_headers={"Authorization": f"Bearer {token}"},
        proxy=None,
        compression=None,
        max_size=MAX_FRAME,
    )


async def order(socket: ClientConnection, command: str, data: Any) -> dict[str, Any]:
    """Give a command at the operator's door and return the data of the answer."""
    await socket.send(json.dumps({"type": command, "data": data}))
    answer: dict[str, Any] = json.loads(await socket.recv())["data"]
    return answer


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mt5-bridge backend", description="The reference backend.")
    add = parser.add_argument
    add("--listen", default="127.0.0.1:8765", metavar="HOST:PORT", help="where bridges connect (default %(default)s)")
    add("--token", help="what they must bring (default: BACKEND_AUTH_TOKEN, else a random one, printed)")
    add("--bootstrap", help="the broker (default: REDPANDA_BOOTSTRAP_SERVERS; empty: WebSocket only)")
    add("--demo-signals", type=float, metavar="SECONDS", help="send demo signals, good and bad, at this interval")
    add("--seed", type=int, default=1, help="seed of the demo signals")
    add("--until-eof", action="store_true", help="end when standard input ends")
    add(
        "--send", metavar="COMMAND", help="as operator: give a running backend's bridges a command, e.g. emergency_stop"
    )
    add("--params", default="{}", metavar="JSON", help="parameters of --send")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command's entry. Exit codes: 0 ended as asked, 1 it could not be done, 2 wrong arguments."""
    options = _parser().parse_args(argv)
    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdigit():
        sys.stderr.write(f"--listen must be HOST:PORT, not {options.listen!r}\n")
        return 2
    token = options.token or os.environ.get("BACKEND_AUTH_TOKEN") or ""
    logger.remove()
    logger.add(sys.stderr, level="INFO", format="{time:HH:mm:ss.SSS} {level: <7} {message}")
    if options.send:
        return _send_as_operator(options.listen, token, options.send, options.params)
    if not token:
        token = secrets.token_hex(16)  # never begins with a dash, as an argument must not
        logger.info("Token made up for this run: {token}", token=token)
    bootstrap = options.bootstrap
    config = BackendConfig(
        host=host,
        port=int(port),
        token=token,
        bootstrap=os.environ.get("REDPANDA_BOOTSTRAP_SERVERS", "") if bootstrap is None else bootstrap,
        signal_interval=options.demo_signals,
        seed=options.seed,
        hmac_key=os.environ.get("SIGNAL_HMAC_KEY") or None,
        viewer_token=os.environ.get("BACKEND_VIEWER_TOKEN") or None,
    )
    try:
        asyncio.run(_serve(config, until_eof=options.until_eof))
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.listen}: {error}\n")
        return 1
    return 0


async def _serve(config: BackendConfig, *, until_eof: bool) -> None:
    stop = asked_to_stop(with_stdin=until_eof)
    backend = ReferenceBackend(config)
    listening = asyncio.Event()
    serving = asyncio.create_task(backend.run(stop, listening), name="backend")
    announce = asyncio.create_task(listening.wait(), name="backend-listening")
    await asyncio.wait({serving, announce}, return_when=asyncio.FIRST_COMPLETED)
    if listening.is_set():
        # For programs that start this one: the address, in one line.
        sys.stdout.write(json.dumps({"listening": backend.address}) + "\n")
        sys.stdout.flush()
    announce.cancel()
    await serving


def _send_as_operator(address: str, token: str, command: str, params: str) -> int:
    try:
        data = json.loads(params)
    except ValueError as error:
        sys.stderr.write(f"--params is not JSON: {error}\n")
        return 2

    async def send() -> dict[str, Any]:
        async with open_door(address, token, "operator") as socket:
            return await order(socket, command, data)

    try:
        answer = asyncio.run(send())
    except (OSError, InvalidHandshake, ConnectionClosed) as error:
        sys.stderr.write(f"backend at {address}: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0 if answer.get("success") else 1


if __name__ == "__main__":
    sys.exit(main())
