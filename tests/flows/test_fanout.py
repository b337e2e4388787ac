import json
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.flow_kit import EVENTS, FakeProducer, FlowKit
from support.simulated import leap, simulated

from mt5_bridge.core.channels import Channel
from mt5_bridge.core.errors import JournalError, MT5DataError
from mt5_bridge.core.halt import Origin
from mt5_bridge.core.messages import ConnectionStatus
from mt5_bridge.core.model import Quote
from mt5_bridge.flows.outbox import DEAD_LETTER


class Ear:
    """A listener that keeps everything."""

    def __init__(self) -> None:
        self.told: list[tuple[Channel, str, bytes]] = []

    def __call__(self, channel: Channel, slot: str, frame: bytes) -> None:
        self.told.append((channel, slot, frame))

    def of(self, channel: Channel) -> list[dict[str, Any]]:
        return [json.loads(frame) for of, _, frame in self.told if of is channel]

    def bids(self, symbol: str = "EURUSD") -> list[float]:
        return [told["data"]["bid"] for told in self.of(Channel.TICKS) if told["data"]["symbol"] == symbol]


async def tick(kit: FlowKit, bid: float, symbol: str = "EURUSD") -> None:
    leap(0.001)
    kit.terminal.tick(symbol, bid, bid + 0.0001, after_ms=0)


async def ticking(kit: FlowKit) -> None:
    kit.run("ticks", "cursors")
    await eventually(lambda: "EURUSD" in kit.book.quotes, 60)


@simulated
async def test_the_state_as_it_is_comes_first(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await ticking(kit)
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
        await kit.result("s1")
        await kit.book.refresh()
        ear = Ear()
        kit.fanout.listen(ear)
        assert ear.bids() == [1.1]
        assert ear.of(Channel.ACCOUNT)[0]["data"]["login"] == 1001
        (held,) = ear.of(Channel.POSITIONS)[0]["data"]
        assert (held["symbol"], held["volume"]) == ("EURUSD", 0.1)
        (beat,) = ear.of(Channel.HEALTH)
        assert (beat["type"], beat["data"]["halt"]) == ("heartbeat", "active")
        assert ear.of(Channel.EVENTS) == []


@simulated
async def test_before_the_terminal_has_told_anything_there_is_only_health(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, ready=False, reconcile=False) as kit:
        ear = Ear()
        kit.fanout.listen(ear)
        assert [channel for channel, *_ in ear.told] == [Channel.HEALTH]


@simulated
async def test_ticks_go_to_the_broker_and_to_who_listens(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await ticking(kit)
        ear = Ear()
        end = kit.fanout.listen(ear)
        await tick(kit, 1.2)
        await tick(kit, 1.3)
        await eventually(lambda: ear.bids() == [1.1, 1.3], 60)  # of each poll the latest
        newest = [frame for channel, _, frame in ear.told if channel is Channel.TICKS][-1]
        await eventually(lambda: kit.producer.records and kit.producer.records[-1].value == newest, 60)
        assert not any(slot.startswith("tick:") for slot in kit.channel.latest)  # hybrid mode: not to the backend
        end()
        end()
        await tick(kit, 1.4)
        await eventually(lambda: json.loads(kit.producer.records[-1].value or b"")["data"]["bid"] == 1.4, 60)
        assert ear.bids() == [1.1, 1.3]


@simulated
async def test_in_standard_mode_ticks_go_to_the_backend_as_well(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, hybrid=False, channels=("websocket",)) as kit:
        await ticking(kit)
        ear = Ear()
        end = kit.fanout.listen(ear)
        for bid in (1.2, 1.3):
            await tick(kit, bid)
            await eventually(lambda bid=bid: ear.bids()[-1] == bid, 60)  # type: ignore[misc]
            assert json.loads(kit.channel.latest["tick:EURUSD"])["data"]["bid"] == bid
        end()
        await tick(kit, 1.4)
        await eventually(lambda: json.loads(kit.channel.latest["tick:EURUSD"])["data"]["bid"] == 1.4, 60)
        assert ear.bids() == [1.1, 1.2, 1.3]


@simulated
async def test_prices_are_shown_while_the_broker_is_away_and_no_tick_is_lost(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await ticking(kit)
        ear = Ear()
        kit.fanout.listen(ear)
        kit.producer.connected = False
        for bid in (1.2, 1.3):
            await tick(kit, bid)
            await eventually(lambda bid=bid: ear.bids()[-1] == bid, 60)  # type: ignore[misc]
        assert ear.bids() == [1.1, 1.2, 1.3]  # told once each
        kit.producer.connected = True
        await eventually(lambda: _published(kit.producer)[-2:] == [1.2, 1.3], 60)


def _published(producer: FakeProducer) -> list[float]:
    return [record["data"]["bid"] for record in producer.of("tick_data")]


@simulated
async def test_a_symbol_without_a_price_keeps_none_from_the_others(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await ticking(kit)
        ear = Ear()
        kit.fanout.listen(ear)
        asked: list[str] = []
        price = kit.terminal.get_price

        async def without(symbol: str, **more: Any) -> Quote:
            asked.append(symbol)
            if len(asked) < 3:
                raise MT5DataError("no price", code=-4)
            found = await price(symbol, **more)
            return found if len(asked) > 5 else Quote(symbol, float("nan"), 1.2, 0.0, 0.0, found.time_msc)

        kit.terminal.get_price = without  # type: ignore[method-assign]
        kit.producer.connected = False
        await tick(kit, 1.2)
        await eventually(lambda: ear.bids() == [1.1, 1.2], 60)


@simulated
async def test_events_are_told_as_they_were_journalled_and_only_then(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("outbox-redpanda")
        ears = [Ear(), Ear()]
        ends = [kit.fanout.listen(ear) for ear in ears]
        kit.journal.break_down()
        with pytest.raises(JournalError):
            await kit.outbox.commit(kit.outbox.event("pending_changed", {}))
        assert ears[0].of(Channel.EVENTS) == []
        kit.journal.mend()
        await kit.send("BUY", signal_id="s2", volume=0.1, stop_loss=1.09)
        await kit.result("s2")
        kit.emergency.stop(reason="x", by="test", origin=Origin.LOCAL, options=None)
        await eventually(lambda: len(kit.producer.of(EVENTS, "halt_changed")) >= 1, 60)
        on_topic = [record.value for record in kit.producer.records if record.topic == EVENTS]
        for ear in ears:
            told = [frame for channel, _, frame in ear.told if channel is Channel.EVENTS]
            assert told[: len(on_topic)] == on_topic
            assert all(json.loads(frame)["event_id"] for frame in told)
            assert {json.loads(frame)["type"] for frame in told} == {"order_result", "halt_changed"}
        ends[0]()
        before = len(ears[0].told)
        await kit.outbox.commit(kit.outbox.event("pending_changed", {}))
        assert len(ears[0].told) == before
        assert ears[1].of(Channel.EVENTS)[-1]["type"] == "pending_changed"


@simulated
async def test_dead_letters_are_no_events(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ear = Ear()
        kit.fanout.listen(ear)
        letter = kit.outbox.dead_letter(key=None, value=b"x", headers=[], why={"reason": "no_envelope"})
        assert letter.type == DEAD_LETTER
        await kit.outbox.commit(letter)
        assert ear.of(Channel.EVENTS) == []


@simulated
async def test_account_positions_and_health_go_to_the_backend_and_to_who_listens(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        ear = Ear()
        kit.fanout.listen(ear)
        before = len(ear.told)
        kit.account.greet()
        kit.watch.beat()
        kit.fanout.send_latest("something else", b"{}")
        assert [channel for channel, *_ in ear.told[before:]] == [Channel.ACCOUNT, Channel.POSITIONS, Channel.HEALTH]
        assert [kit.channel.latest[slot] for slot in ("account_info", "positions", "heartbeat")] == [
            frame for *_, frame in ear.told[before:]
        ]
        assert kit.channel.latest["something else"] == b"{}"


@simulated
async def test_a_channel_that_changes_is_told_to_who_listens(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        down = ConnectionStatus(channel="redpanda", state="disconnected", since="", detail="gone")
        kit.fanout.channel("redpanda", down)
        ear = Ear()
        kit.fanout.listen(ear)
        kit.fanout.channel("redpanda", down)
        told = ear.of(Channel.HEALTH)[-1]
        assert (told["type"], told["data"]["state"]) == ("connection_status", "disconnected")
        assert [slot for _, slot, _ in ear.told][-1] == "connection_status:redpanda"
