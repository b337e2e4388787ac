"""The reference backend as an object on real sockets, and as a program."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.reference import TOKEN, running
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from mt5_bridge.client import BridgeTopics
from mt5_bridge.demo.backend import BackendConfig, ReferenceBackend, main, open_door, order
from mt5_bridge.demo.broker import EmbeddedBroker
from mt5_bridge.demo.snapshot import Snapshot


@asynccontextmanager
async def bridge(backend: ReferenceBackend) -> AsyncIterator[ClientConnection]:
    async with open_door(backend.address, TOKEN, "bridge") as socket:
        await say(socket, "hello", {"bridge_id": "b-1", "halt": {"state": "active"}})
        await eventually(lambda: backend.observed.bridges)
        yield socket


async def say(socket: ClientConnection, type: str, data: Any, **beside: Any) -> None:
    await socket.send(msgspec.json.encode({"type": type, "data": data, **beside}), text=True)


async def hear(socket: ClientConnection) -> dict[str, Any]:
    heard: dict[str, Any] = json.loads(await socket.recv())
    return heard


async def test_every_door_wants_the_token() -> None:
    async with running() as backend:
        for door in ("bridge", "operator", "watch"):
            with pytest.raises(InvalidStatus, match="401"):
                async with open_door(backend.address, "wrong", door):
                    pass


async def test_an_operator_reaches_the_bridge() -> None:
    async with (
        running() as backend,
        bridge(backend) as socket,
        open_door(backend.address, TOKEN, "operator") as operator,
    ):
        asked = asyncio.create_task(order(operator, "emergency_stop", {"reason": "test"}))
        command = await hear(socket)
        assert (command["type"], command["data"]) == ("emergency_stop", {"reason": "test"})
        answer = {"command": "emergency_stop", "success": True, "data": {"state": "halted"}}
        await say(socket, "command_result", answer, request_id=command["request_id"])
        assert await asked == {
            "command": "emergency_stop", "success": True, "data": [{"bridge_id": "b-1"} | answer],
        }  # fmt: skip
    assert backend.observed.snapshot(0).stop.answer == {"state": "halted"}


async def test_an_operator_hears_of_failures() -> None:
    async with running() as backend, open_door(backend.address, TOKEN, "operator") as operator:
        assert (await order(operator, "get_status", {}))["error"]["code"] == "no_bridge"
        await operator.send("nonsense")
        assert (await hear(operator))["type"] == "error"
        async with bridge(backend) as socket:
            asked = asyncio.create_task(order(operator, "get_status", {}))
            await hear(socket)
        answer = await asked
        assert not answer["success"]
        assert answer["data"][0]["error"]["code"] == "no_answer"
        async with bridge(backend) as socket:
            asked = asyncio.create_task(order(operator, "get_status", {}))
            command = await hear(socket)
            await say(socket, "command_result", [1], request_id=command["request_id"])
            assert (await asked)["data"] == [{"bridge_id": "b-1", "success": False, "data": [1]}]


async def test_a_watcher_gets_snapshots() -> None:
    async with running() as backend, bridge(backend) as socket:
        await say(socket, "account_info", {"equity": 5.0})
        async with open_door(backend.address, TOKEN, "watch") as watcher:
            async for raw in watcher:
                seen = msgspec.json.decode(raw, type=Snapshot)
                if seen.account:
                    break
    assert seen.account == {"equity": 5.0}
    assert seen.bridges == [{"bridge_id": "b-1", "halt": {"state": "active"}}]
    await eventually(lambda: not backend.observed.bridges)


async def test_without_a_broker_signals_go_over_the_socket() -> None:
    async with running(signal_interval=0.01) as backend, bridge(backend) as socket:
        await say(socket, "tick_data", {"symbol": "EURUSD", "bid": 1.1, "ask": 1.1001, "time_msc": 0})
        signal = await hear(socket)
        assert (signal["type"], signal["data"]["symbol"]) == ("trading_signal", "EURUSD")


async def test_with_a_broker_signals_and_events_go_over_topics() -> None:
    with EmbeddedBroker() as broker:
        async with (
            BridgeTopics(broker.bootstrap) as topics,
            running(bootstrap=broker.bootstrap, signal_interval=0.05) as backend,
            bridge(backend),
        ):
            names = topics.names
            ticks = BridgeTopics(broker.bootstrap, names=msgspec.structs.replace(names, signals=names.ticks))
            events = BridgeTopics(broker.bootstrap, names=msgspec.structs.replace(names, signals=names.events))
            dead = BridgeTopics(broker.bootstrap, names=msgspec.structs.replace(names, signals=names.dead_letters))
            async with ticks, events, dead:
                tick = {"symbol": "EURUSD", "bid": 1.1, "ask": 1.1001, "time_msc": 0}
                await ticks.send_raw(msgspec.json.encode({"type": "tick_data", "data": tick}))
                await events.send_raw(b'{"type":"order_result","event_id":"1","data":{"status":"denied"}}')
                await dead.send_raw(b"nonsense")
                seen = backend.observed
                await eventually(lambda: seen.snapshot(0).sent and seen.snapshot(0).topics.denials, timeout=15)
                await eventually(lambda: "dead letter" in seen.snapshot(0).fates, timeout=15)


async def test_a_taken_port_is_an_error() -> None:
    async with running() as backend:
        host, port = backend.address.split(":")
        other = ReferenceBackend(BackendConfig(host=host, port=int(port), token=TOKEN))
        with pytest.raises(OSError, match="address"):
            await other.run(asyncio.Event())


def program(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "mt5_bridge.demo.backend", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_program_announces_itself_takes_orders_and_ends_with_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    with program("--listen", "127.0.0.1:0", "--bootstrap", "", "--until-eof") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = json.loads(process.stdout.readline())["listening"]
        made_up = process.stderr.readline().split()[-1]
        as_operator = ["--listen", address, "--send", "emergency_stop"]
        assert main([*as_operator, "--token", "wrong"]) == 1
        assert main([*as_operator, "--token", made_up]) == 1
        assert main([*as_operator, "--token", made_up, "--params", "nonsense"]) == 2
        said = capsys.readouterr()
        assert "no bridge is connected" in said.out
        assert "401" in said.err
        taken = subprocess.run([sys.executable, "-m", "mt5_bridge.demo.backend", "--listen", address], check=False)
        assert taken.returncode == 1
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, "Traceback" in errors) == (0, False)


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--listen", "8765"]) == 2
    assert "HOST:PORT" in capsys.readouterr().err
