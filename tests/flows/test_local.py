import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.flow_kit import FlowKit

from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.flows import latch
from mt5_bridge.flows.local import CONTROL_FILE


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[FlowKit]:
    async with FlowKit.open(tmp_path) as kit:
        await kit.local.open()
        yield kit
        await kit.local.close()


def told(kit: FlowKit) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((kit.folder / CONTROL_FILE).read_text())
    return content


async def send(kit: FlowKit, line: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", told(kit)["port"])
    try:
        writer.write(line)
        await writer.drain()
        async with asyncio.timeout(10):
            return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def ask(kit: FlowKit, command: str, **params: Any) -> dict[str, Any]:
    request = {"token": told(kit)["token"], "command": command, "params": params}
    answer: dict[str, Any] = json.loads(await send(kit, json.dumps(request).encode() + b"\n"))
    return answer


async def test_tells_where_it_listens_to_its_owner_only(kit: FlowKit) -> None:
    content = told(kit)
    assert content["pid"] == os.getpid()
    assert len(content["token"]) >= 24
    if sys.platform != "win32":
        assert stat.S_IMODE((kit.folder / CONTROL_FILE).stat().st_mode) == 0o600


async def test_answers_status_stop_and_resume(kit: FlowKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latch, "DURABLE_WITHIN_S", 10.0)  # a slow machine's disk is not what is looked at
    assert (await ask(kit, "status"))["data"]["status"] == "ok"
    stopped = (await ask(kit, "stop", reason="drill", by="ann"))["data"]
    assert {n: stopped[n] for n in ("state", "reason", "by", "durable")} == {
        "state": "halted",
        "reason": "drill",
        "by": "ann",
        "durable": True,
    }
    assert kit.latch.halt.origin is Origin.LOCAL
    assert (await ask(kit, "resume"))["error"]["code"] == "invalid_params"

    async def resumed() -> bool:
        return bool((await ask(kit, "resume", reason="over", by="ann"))["success"])

    await eventually(resumed, 5)
    assert kit.latch.halt.state is HaltState.ACTIVE


async def test_a_stop_takes_its_options(kit: FlowKit) -> None:
    await ask(kit, "stop", close_positions=False, cancel_orders=False, scope="mine")
    goal = kit.emergency._goal
    assert goal is None or (goal.close_positions, goal.cancel_orders, goal.scope) == (False, False, "mine")
    assert kit.latch.halt.reason == "emergency stop"


async def test_refusals_carry_their_code(kit: FlowKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.flows.latch._LOOSEN_WAIT_S", 0.05)
    kit.journal.break_down()
    await ask(kit, "stop")
    refused = await ask(kit, "resume", reason="x", force=True)
    assert refused["error"]["code"] == "journal_unavailable"
    kit.journal.mend()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello\n", "invalid"),
        (b"\n", "invalid"),
        (b"[]\n", "invalid"),
        (b'"text"\n', "invalid"),
        (b"17\n", "invalid"),
        (b'{"token": "x"}\n', "invalid"),
        (b"[" * 60_000 + b"\n", "invalid"),
        (b'{"token": "wrong", "command": "stop"}\n', "forbidden"),
        (b'{"token": "\\ud800", "command": "stop"}\n', "forbidden"),
        (b'{"token": null, "command": "stop"}\n', "forbidden"),
        (b'{"token": "TOKEN", "command": "dance"}\n', "unknown_command"),
        (b'{"token": "TOKEN", "command": "stop", "params": [1]}\n', "unknown_command"),
    ],
)
async def test_garbage_and_strangers_are_refused(kit: FlowKit, line: bytes, code: str) -> None:
    line = line.replace(b"TOKEN", told(kit)["token"].encode())
    assert json.loads(await send(kit, line))["error"]["code"] == code
    assert kit.latch.halt.state is HaltState.ACTIVE
    assert (await ask(kit, "status"))["success"]


async def test_a_line_without_end_is_cut_off(kit: FlowKit) -> None:
    assert await send(kit, b"x" * 100_000) == b""


async def test_who_says_nothing_is_cut_off(kit: FlowKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.flows.local._READ_S", 0.05)
    assert await send(kit, b"") == b""


async def test_the_end_takes_the_file_away_and_waits_for_nobody(kit: FlowKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.flows.local._CLOSE_S", 0.05)
    _, writer = await asyncio.open_connection("127.0.0.1", told(kit)["port"])
    await eventually(lambda: kit.local._serving)
    await kit.local.close()
    assert CONTROL_FILE not in os.listdir(kit.folder)
    assert not kit.local._serving
    writer.close()


async def test_a_file_left_behind_is_replaced(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        (tmp_path / "control.new").write_text("left by a crash")
        (tmp_path / CONTROL_FILE).write_text("{}")
        await kit.local.open()
        assert (await ask(kit, "status"))["success"]
        await kit.local.close()


async def test_closing_what_was_never_opened(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.local.close()
