"""The bridge as the gateway sees it: the same guards, the same inbox, the same stop."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from support.eventually import eventually
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.claim import Claim
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.flows import door as module
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.door import Door
from mt5_bridge.flows.emergency import StopOptions
from mt5_bridge.flows.session import Credentials

BUY = {"symbol": "EURUSD", "action": "BUY", "volume": 0.1, "stop_loss": 1.09}


class Sittings:
    """A session that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.refusal: Refusal | None = None

    async def connect(self, wanted: Credentials) -> dict[str, Any]:
        return self._done(wanted)

    async def disconnect(self) -> dict[str, Any]:
        return self._done("disconnect")

    def _done(self, what: Any) -> dict[str, Any]:
        self.asked.append(what)
        if self.refusal is not None:
            raise self.refusal
        return {"connected": True}


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[tuple[FlowKit, Door]]:
    async with FlowKit.open(folder, **options) as kit:
        yield kit, kit.door()


async def held(kit: FlowKit, count: int) -> None:
    """As many positions are open, and no more."""
    await kit.book.refresh()
    assert len(kit.book.positions) == count


# --- the halt


@simulated
async def test_a_resume_lifts_nothing_that_came_after_what_was_heard(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        options = StopOptions(cancel_orders=False, close_positions=False)
        kit.emergency.stop(reason="first", by="ann", origin=Origin.REMOTE, options=options)
        heard = door.heard()
        await door.command("emergency_stop", {"close_positions": False, "cancel_orders": False}, by="bob")
        answer = await door.command("resume_trading", {"reason": "over", "force": True}, by="ann", heard=heard)
        assert (answer["success"], kit.latch.halt.state) == (False, HaltState.HALTED)
        answer = await door.command("resume_trading", {"reason": "over", "force": True}, by="ann", heard=door.heard())
        assert (answer["success"], kit.latch.halt.state) == (True, HaltState.ACTIVE)


# --- signals


@simulated
async def test_a_signal_is_filled_and_told_like_any_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        result = await door.signal({**BUY, "signal_id": "s1"}, by="ann", request_id="r1")
        assert (result["status"], result["signal_id"], result["request_id"]) == ("filled", "s1", "r1")
        await held(kit, 1)
        row = (await kit.journal.seen(["s1"]))["s1"]
        assert row.source == "gateway (ann)"
        assert (await kit.result("s1"))["status"] == "filled"


@simulated
async def test_repeated_it_gets_its_first_result_also_by_another_way(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        first = await door.signal({**BUY, "signal_id": "s1"}, by="ann", request_id="r1")
        again = await door.signal({**BUY, "signal_id": "s1"}, by="bob", request_id="r2")
        assert again == {**first, "request_id": "r2"}
        await held(kit, 1)
        nameless = [await door.signal(BUY, by=by, request_id="r") for by in ("ann", "ann", "bob")]
        assert nameless[0] == nameless[1]
        assert nameless[2]["signal_id"] != nameless[0]["signal_id"], "two askers may number alike"
        await held(kit, 3)
        for _ in range(2):
            await door.signal(BUY, by="ann")
        await held(kit, 5)
        assert kit.intake.stats.asked == 7


@simulated
async def test_asked_twice_at_once_both_hear_the_one_result(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        results = await asyncio.gather(*(door.signal({**BUY, "signal_id": "s1"}, by="ann") for _ in range(5)))
        assert {(result["status"], result["deal"]) for result in results} == {("filled", results[0]["deal"])}
        await held(kit, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({**BUY, "volume": float("nan")}, "invalid"),
        ({**BUY, "volume": -1}, "invalid"),
        ({"symbol": "EURUSD"}, "invalid"),
        ({**BUY, "account": 999}, "account_mismatch"),
        ({**BUY, "stop_loss": None}, "no_stop_loss"),
        ({**BUY, "created_at": 1}, "stale"),
        ({**BUY, "symbol": "NOPE"}, "unknown_symbol"),
    ],
)
def test_the_guards_are_the_same(tmp_path: Path, data: dict[str, Any], reason: str) -> None:
    @simulated
    async def run() -> None:
        async with opened(tmp_path) as (kit, door):
            result = await door.signal(data, by="ann")
            assert (result["status"], result["reason"]) == ("denied", reason)
            assert not kit.book.positions

    run()


@simulated
async def test_halted_it_denies(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        door.latch(by="ann")
        assert (kit.latch.halt.state, kit.latch.halt.by) == (HaltState.HALTED, "ann")
        assert (await door.signal(BUY, by="ann"))["reason"] == "halted"


@simulated
async def test_with_a_key_only_what_is_signed_trades(tmp_path: Path) -> None:
    async with opened(tmp_path, hmac_keys=("a key",)) as (kit, door):
        data = {**BUY, "signal_id": "s1", "account": 1001, "created_at": kit.clock.now_ms()}
        raw = json.dumps(data).encode()
        good = hmac.new(b"a key", raw, hashlib.sha256).hexdigest()
        for signed, signature in ((None, None), (raw, None), (raw, "0" * 64), (raw + b" ", good)):
            result = await door.signal(data, by="ann", raw=signed, signature=signature)
            assert (result["status"], result["reason"]) == ("denied", "bad_signature")
        assert (await door.signal(data, by="ann", raw=raw, signature=good))["status"] == "filled"


@simulated
async def test_while_the_account_is_not_known_nothing_is_spent(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        kit.intake.login_known.clear()
        assert (await door.signal({**BUY, "signal_id": "s1"}, by="ann"))["reason"] == "not_ready"
        kit.intake.login_known.set()
        assert (await door.signal({**BUY, "signal_id": "s1"}, by="ann"))["status"] == "filled"


@simulated
async def test_a_disk_that_does_not_write_denies_and_spends_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        kit.journal.break_down()
        denied = await door.signal({**BUY, "signal_id": "s1"}, by="ann")
        assert (denied["status"], denied["reason"]) == ("denied", "journal_unavailable")
        kit.journal.mend()
        await eventually(lambda: kit.book.journal_healthy, 60)
        assert (await door.signal({**BUY, "signal_id": "s1"}, by="ann"))["status"] == "filled"


# --- commands


@simulated
async def test_a_command_is_answered_and_done_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, door):
        ticket = (await door.signal(BUY, by="ann"))["position"]
        first = await door.command("close_position", {"ticket": ticket}, by="ann", request_id="c1")
        assert (first["success"], first["data"]["status"]) == (True, "closed")
        assert await door.command("close_position", {"ticket": ticket}, by="ann", request_id="c1") == first
        other = await door.command("close_position", {"ticket": ticket}, by="bob", request_id="c1")
        assert other["error"]["code"] == "not_found", "another's c1 is another"
        wrapped = {"command": "positions_get", "params": {}}
        assert (await door.command("mt5_command", wrapped, by="ann"))["data"] == []


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("dance", {}, "unknown_command"),
        ("trading_signal", dict(BUY), "unknown_command"),
        ("close_position", {"ticket": 0}, "invalid_params"),
        ("modify_position", {"ticket": 1, "stop_loss": float("nan")}, "invalid_params"),
        ("resume_trading", {"by": "x"}, "invalid_params"),
        ("resume_trading", {"reason": "r", "by": 7}, "invalid_params"),
        ("mt5_command", {"command": "order_send"}, "unknown_command"),
    ],
)
def test_what_is_no_command(tmp_path: Path, name: str, data: dict[str, Any], code: str) -> None:
    @simulated
    async def run() -> None:
        async with opened(tmp_path) as (_, door):
            answer = await door.command(name, data, by="ann")
            assert (answer["success"], answer["error"]["code"]) == (False, code)

    run()


@simulated
async def test_who_asked_is_who_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        await door.command("reduce_only", {}, by="ann")
        assert (kit.latch.halt.state, kit.latch.halt.by) == (HaltState.REDUCING, "ann")
        await door.command("resume_trading", {"reason": "fine", "by": "bob"}, by="ann")
        assert (kit.latch.halt.state, kit.latch.halt.by) == (HaltState.ACTIVE, "bob (ann)")
        await door.command("mt5_command", {"command": "stop", "params": {"by": "x" * 400}}, by="ann")
        assert kit.latch.halt.by.endswith("x (ann)")
        assert len(kit.latch.halt.by) <= 100
        await door.command("mt5_command", {"command": "resume", "params": {"reason": "fine", "force": True}}, by="ann")
        assert (kit.latch.halt.state, kit.latch.halt.by) == (HaltState.ACTIVE, "ann")


# --- the stop


@simulated
async def test_a_stop_latches_before_anything_waits(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        asked = door.command("emergency_stop", {"reason": "news", "close_positions": False}, by="ann", request_id="s1")
        asked.send(None)  # as far as its first wait
        assert (kit.latch.halt.state, kit.latch.halt.reason) == (HaltState.HALTED, "news")
        asked.close()
        assert kit.emergency._goal == StopOptions(cancel_orders=True, close_positions=False, scope="all")


@simulated
async def test_a_stop_is_answered_though_the_disk_and_the_terminal_hang(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        kit.journal.break_down()
        began = asyncio.get_running_loop().time()
        answer = await door.command("emergency_stop", {"scope": 7}, by="ann", request_id="s1")
        assert asyncio.get_running_loop().time() - began < 0.1
        assert answer["data"]["state"] == "halted"
        assert answer["data"]["durable"] is False
        assert answer["data"]["faults"]
        kit.journal.mend()


@simulated
async def test_the_same_stop_in_the_same_halt_does_nothing_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        first = await door.command("emergency_stop", {}, by="ann", request_id="s1")
        assert await door.command("emergency_stop", {"reason": "again"}, by="ann", request_id="s1") == first
        assert kit.emergency.stops == 1
        await door.command("emergency_stop", {}, by="bob", request_id="s1")
        assert kit.emergency.stops == 2
        await kit.commands.resume("ok", "ann", force=True, origin=Origin.LOCAL)
        await door.command("emergency_stop", {"reason": "again"}, by="ann", request_id="s1")
        assert (kit.latch.halt.state, kit.latch.halt.reason) == (HaltState.HALTED, "again")


@simulated
async def test_a_stop_while_a_resume_is_written_wins(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        await door.command("emergency_stop", {}, by="ann")
        await eventually(lambda: not kit.emergency.unfinished, 60)
        resuming = asyncio.ensure_future(door.command("resume_trading", {"reason": "fine"}, by="ann"))
        await asyncio.sleep(0)
        await door.command("emergency_stop", {}, by="bob")
        answer = await resuming
        assert (answer["success"], kit.latch.halt.state) == (False, HaltState.HALTED)


@simulated
async def test_a_stop_that_comes_before_a_resume_has_its_turn_wins(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        await door.command("emergency_stop", {}, by="ann")
        await eventually(lambda: not kit.emergency.unfinished, 60)
        resuming = door.command("resume_trading", {"reason": "fine"}, by="ann")
        await door.command("emergency_stop", {}, by="ann")
        answer = await resuming
        assert (answer["success"], kit.latch.halt.state) == (False, HaltState.HALTED)
        assert (await door.command("resume_trading", {"reason": "now", "force": True}, by="ann"))["success"]


# --- the end, and bounds


@simulated
async def test_at_the_end_nothing_is_begun_but_a_stop(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        door.close()
        assert (await door.signal(BUY, by="ann"))["reason"] == "not_ready"
        assert (await door.command("close_all", {}, by="ann"))["error"]["code"] == "shutting_down"
        assert (await door.command("emergency_stop", {}, by="ann"))["success"]
        assert kit.latch.halt.state is HaltState.HALTED


@simulated
async def test_what_is_under_way_is_bounded_and_a_stop_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2)
    async with opened(tmp_path) as (kit, door):
        go_on = asyncio.Event()

        async def hang(command: Any) -> dict[str, Any]:
            await go_on.wait()
            return {}

        kit.answers.handlers["get_account"] = hang
        waiting = [asyncio.ensure_future(door.command("get_account", {}, by="ann")) for _ in range(2)]
        await asyncio.sleep(0)
        waiting.pop().cancel()
        await asyncio.sleep(0)
        assert (await door.command("get_account", {}, by="ann"))["error"]["code"] == "overloaded", "it is still done"
        assert (await door.signal(BUY, by="ann"))["reason"] == "throttled"
        assert (await door.command("emergency_stop", {}, by="ann"))["success"]
        go_on.set()
        assert (await waiting[0])["success"]
        await asyncio.sleep(0)
        assert (await door.command("get_status", {}, by="ann"))["success"]


@simulated
async def test_readers_keep_nobody_from_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READS", 2)
    async with opened(tmp_path) as (kit, door):
        go_on = asyncio.Event()

        async def hang(command: Any) -> dict[str, Any]:
            await go_on.wait()
            return {}

        kit.answers.handlers["get_rates"] = hang
        asked = {"symbol": "EURUSD", "timeframe": "M1"}
        waiting = [asyncio.ensure_future(door.command("get_rates", asked, by="ann")) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await door.command("get_rates", asked, by="ann"))["error"]["code"] == "overloaded"
        assert (await door.command("close_all", {}, by="bob"))["success"]
        go_on.set()
        assert all(answer["success"] for answer in await asyncio.gather(*waiting))
        assert (await door.command("get_rates", asked, by="ann"))["success"]


# --- the picture


@simulated
async def test_the_picture_asks_the_terminal_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        await door.signal(BUY, by="ann")
        await kit.book.refresh()
        reads = kit.book.complete_reads
        seen = door.snapshot()
        assert seen is door.snapshot()
        assert seen.account is not None
        assert (seen.account["login"], len(seen.positions), seen.orders, seen.reconciled) == (1001, 1, (), True)
        assert (seen.read, kit.book.complete_reads) == (reads, reads)
        assert 0 < seen.at_msc <= kit.clock.now_ms()
        await kit.book.refresh()
        assert door.snapshot().read > seen.read
        assert door.status()["status"] == "ok"


# --- keys, the picture, the session


@simulated
async def test_a_key_is_its_owners(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, door):
        assert await door.claim("k", "one", by="ann") is Claim.FIRST
        assert await door.claim("k", "two", by="bob") is Claim.FIRST
        assert await door.claim("k", "two", by="ann") is Claim.OTHER


@simulated
async def test_no_name_makes_a_key_anothers(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        assert await door.claim("b/http:k", "one", by="a") is Claim.FIRST
        assert await door.claim("http:k", "two", by="a/b") is Claim.FIRST
        asked = {"symbol": "EURUSD"}
        first = await door.command("close_all", asked, by="claim-a", request_id="b/http:k")
        assert first["success"]
        assert (await door.command("reduce_only", {}, by="claim-a/b", request_id="http:k"))["command"] == "reduce_only"
        assert kit.answers.once.repeated == 0


@simulated
async def test_the_picture_is_read_anew_on_request(tmp_path: Path) -> None:
    async with opened(tmp_path) as (kit, door):
        before = door.snapshot().read
        calls = kit.terminal.calls.count("snapshot")
        await asyncio.gather(*(door.refresh() for _ in range(50)))
        assert door.snapshot().read > before
        assert kit.terminal.calls.count("snapshot") - calls <= 2


@simulated
async def test_who_connects_with_a_key_does_so_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, door):
        session = Sittings()
        door._session = cast(Any, session)
        told = await door.connect(1, "S", "geheim", by="ann", request_id="k")
        assert told == {"command": "connect", "success": True, "data": {"connected": True}}
        assert await door.connect(1, "S", "geheim", by="ann", request_id="k") == told
        assert session.asked == [Credentials(1, "S", "geheim")]
        await door.connect(None, None, None, by="ann")
        await door.disconnect(by="ann", request_id="d")
        await door.disconnect(by="ann", request_id="d")
        assert session.asked[1:] == [Credentials(None, None, None), "disconnect"]


@simulated
async def test_why_a_session_stays_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, door):
        session = Sittings()
        session.refusal = Refusal("open_intents", "wait")
        door._session = cast(Any, session)
        told = await door.disconnect(by="ann")
        assert (told["success"], told["error"]) == (False, {"code": "open_intents", "message": "wait"})
        door.close()
        assert (await door.disconnect(by="ann"))["error"]["code"] == "shutting_down"
