"""The terminal: the host's own code over the paper terminal, in the loop instead of a process, as badly as the weather.

A host is asked in frames and answers in frames; between them time passes, it may hang, end by itself or be killed. What
it had been handed before its end may still be done: the request is on its way.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from support.simulation.books import stop_of
from support.simulation.weather import Fate, Weather
from support.simulation.world import World, spread

import mt5_bridge.simulator as paper
from mt5_bridge.core.model import OrderRequest
from mt5_bridge.simulator import api
from mt5_bridge.terminal.frames import FrameReader, Request, recalled
from mt5_bridge.terminal.host import Server
from mt5_bridge.terminal.host_ops import Host
from mt5_bridge.terminal.inbox import ThreadInbox
from mt5_bridge.terminal.raw import OpenArgs

_HEAD = 4
_NOT_SENT = -2


class Witness:
    """Who is told of what goes to and comes from the terminal; the oracle overrides what it judges."""

    def order_leaves(self, host: "SimHost", request: OrderRequest) -> None:
        """The bridge has handed an order to the host."""

    def order_begins(self, request: OrderRequest) -> None:
        """A host that the bridge can reach has called `order_send`."""

    def order_answered(self, request: OrderRequest, retcode: int | None, error: int | None) -> None:
        """The bridge has the answer to an order; `retcode` None with an error, both None: it never came."""

    def stop_touched(self, request: OrderRequest, before: float, after: float) -> None:
        """An order for a position has been executed; how near its stop was, and is (see `stop_of`)."""


class SimModule:
    """The paper terminal's module as one host sees it: faults strike its calls.

    Args:
        live: False for the history host, which connects to a terminal that another host has open.
    """

    def __init__(self, world: World, weather: Weather, witness: Witness, *, live: bool) -> None:
        self._world, self._weather, self._witness, self._live = world, weather, witness, live
        self._connecting = False
        """Whether the call before was one that connects."""
        for name in api.BUILTINS:
            setattr(self, name, self._call(name))

    def __getattr__(self, name: str) -> Any:
        return getattr(paper, name)

    def _call(self, name: str) -> Callable[..., Any]:
        function = getattr(paper, name)
        if name == "last_error":
            return function  # type: ignore[no-any-return]
        if not self._live and name in ("initialize", "shutdown"):
            return lambda *args, **kwargs: True
        if name == "order_send":
            return self._send

        def call(*args: Any, **kwargs: Any) -> Any:
            self._strike(name)
            return function(*args, **kwargs)

        return call

    def _strike(self, name: str) -> None:
        fault = self._weather.fault(name)
        connecting, self._connecting = self._connecting, name in ("initialize", "login")
        if connecting and fault == {"kind": "account_swap"}:
            return  # the bridge gives up, since a person must look; nobody in this world does
        if fault is not None:
            self._world.note("fault", name, sorted(fault.items()))
            paper.inject(function=name, nth=1, **fault)

    def _send(self, request: dict[str, Any]) -> Any:
        self._strike("order_send")
        answer = paper.order_send(request)
        error = paper.last_error()[0]
        self._world.note("order_send", sorted(request.items()), None if answer is None else answer[:6], error)
        return answer


class _Replies:
    def __init__(self) -> None:
        self.frame = b""

    def write(self, data: bytes | bytearray) -> int:
        self.frame = bytes(data)
        return len(data)


class _NoPipe(ThreadInbox):
    """Requests come by `reply`, and what is taken back is known at once."""

    def __init__(self) -> None:
        super().__init__(-1)

    def look(self) -> None:
        """There is nothing to read."""


class _InProcess(Server):
    """The host's own server; its terminal is there already."""

    def __init__(self, make: Callable[[str], SimModule]) -> None:
        super().__init__(_NoPipe(), _Replies())
        self._make = make

    def take_back(self, number: int) -> None:
        self._inbox.recalled.add(number)

    def reply(self, payload: bytes) -> bytes:
        return bytes(self._answer(self._decode(payload)))[_HEAD:]

    def _perform(self, request: Request) -> Any:
        if request.op == "open":
            self._host = Host(self._make(msgspec.convert(request.args[0], OpenArgs).role))
            return 1
        return super()._perform(request)


class SimHost:
    """One terminal host; has the manners of `terminal.process.HostProcess`."""

    def __init__(
        self,
        hosts: "Hosts",
        on_frame: Callable[[bytes], None],
        on_exit: Callable[[str], None],
        number: int,
    ) -> None:
        self.hosts, self.number, self.pid = hosts, number, number
        self.connected = self.read_whole = False
        self.closed = False
        self.ended: str | None = None
        self._on_frame, self._on_exit = on_frame, on_exit
        self._reader = FrameReader()
        self._server = _InProcess(hosts.module)
        self._doing: Request | None = None
        self._done = True

    def write(self, frame: bytes | bytearray) -> None:
        """Take a request: it will be done, unless the weather is against it."""
        if self.ended is not None or not self.hosts.alive:
            return
        for payload in self._reader.feed(bytes(frame)):
            if (number := recalled(payload)) is not None:
                self.hosts.world.note("recall", self.number, number)
                self._server.take_back(number)
                continue
            request: Request = self._server._decode(payload)
            fate = self.hosts.weather.fate(request.op)
            self._doing, self._done = request, False
            if request.op == "send":
                order = order_in(request)
                self.hosts.world.note("send", self.number, msgspec.json.encode(order).decode())
                self.hosts.witness.order_leaves(self, order)
            elif request.op == "connect":
                self.connected = self.read_whole = False
            self.hosts.world.after(fate.before, self._perform, request, payload, fate)

    def _perform(self, request: Request, payload: bytes, fate: Fate) -> None:
        if self._doing is not request:
            return  # died with it
        if fate.dies == "before":
            self._end("it crashed")
            return
        self._done = True
        order = order_in(request) if request.op == "send" else None
        before = None if order is None else stop_of(order.position)
        reply = self._server.reply(payload)
        after = None if order is None else stop_of(order.position)
        if order is not None and before is not None and after is not None:
            self.hosts.witness.stop_touched(order, before, after)
        world = self.hosts.world
        world.note("host", self.number, request.op, "late" if self.ended is not None else len(reply))
        failure = msgspec.msgpack.decode(reply)[1]
        if failure is not None and failure[0] == "bug":
            world.breach("defect", f"the host fails {request.op}: {failure[2]}")
        if self.ended is not None or not self.hosts.alive:
            return
        if order is not None and (failure is None or failure[3]):
            self.hosts.witness.order_begins(order)
        if fate.dies:
            self._end("it crashed")
        elif not fate.hangs:
            world.after(fate.after, self._answer, request, reply)

    def _answer(self, request: Request, reply: bytes) -> None:
        if self.ended is not None or not self.hosts.alive:
            return
        self._doing = None
        _, failure, result = msgspec.msgpack.decode(reply)
        if request.op == "send":
            code = None if failure is None else _NOT_SENT if failure[0] == "withdrawn" else failure[1]
            self.hosts.witness.order_answered(order_in(request), None if failure else result[0], code)
        elif failure is None:
            self._notice(request.op)
        self._on_frame(reply)

    def _notice(self, op: str) -> None:
        self.connected |= op == "connect"
        self.read_whole |= op == "snapshot"

    def kill(self, reason: str) -> None:
        """See `HostProcess.kill`."""
        if self.ended is None:
            self._end(reason)

    def _end(self, reason: str) -> None:
        self.ended = reason
        self.closed = True
        self.hosts.world.note("host_ends", self.number, reason)
        self.let_go()
        if self.hosts.alive:
            self._on_exit(reason)

    def let_go(self) -> None:
        """Nobody hears of it any more: what it was handed may still be done."""
        request = self._doing
        if request is None:
            return
        if request.op == "send":
            self.hosts.witness.order_answered(order_in(request), None, None)
        if self._done or self.hosts.world.random("host").random() < 0.5:
            self._doing = None

    async def close(self, timeout: float) -> None:
        """See `HostProcess.close`."""
        if self.ended is None:
            self.ended, self.closed = "closed", True
            self.let_go()
        await asyncio.sleep(0)


def order_in(request: Request) -> OrderRequest:
    """The order that a `send` carries."""
    return msgspec.convert(request.args[2], OrderRequest)


class Hosts:
    """Makes the hosts of one life; stands in the place of `HostProcess`."""

    def __init__(self, world: World, weather: Weather, witness: Witness) -> None:
        self.world, self.weather, self.witness = world, weather, witness
        self.alive = True
        self.all: list[SimHost] = []

    def module(self, role: str) -> SimModule:
        """The terminal's module for a host."""
        return SimModule(self.world, self.weather, self.witness, live=role == "live")

    async def start(
        self,
        on_frame: Callable[[bytes], None],
        on_exit: Callable[[str], None],
        python_path: tuple[str, ...] = (),
        backend: str | None = None,
    ) -> SimHost:
        """See `HostProcess.start`."""
        random = self.world.random("host")
        await asyncio.sleep(spread(random, 0.05, 0.5))
        if self.weather.strikes("host", 0.02, random):
            raise OSError("no more processes")
        host = SimHost(self, on_frame, on_exit, len(self.all) + 1)
        self.world.note("host_starts", host.number)
        self.all.append(host)
        return host

    def die(self) -> None:
        """The daemon is gone: each host ends when its call does."""
        self.alive = False
        for host in self.all:
            if host.ended is None:
                host.ended, host.closed = "the daemon is gone", True
                host.let_go()
