"""A stand-in for the daemon that speaks the contract: ticks and results out, signals and commands in. No guards worth
the name. A program: reads the daemon's settings from the environment, ends on SIGTERM or at the end of standard input.
"""

import asyncio
import itertools
import os
import random
import time
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from websockets.asyncio.client import ClientConnection, connect

from mt5_bridge.core import wire
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.times import iso, parse_time
from mt5_bridge.demo.lifetime import asked_to_stop

ACCOUNT = "5000001"
TOPICS = ("tick_data", "mt5_events", "trading_signals", "trading_signals.dlq")


def now() -> int:
    return time.time_ns() // 1_000_000


class FakeBridge:
    def __init__(self, socket: ClientConnection, producer: AIOKafkaProducer, symbols: list[str]) -> None:
        self.socket = socket
        self.producer = producer
        self.prices = dict.fromkeys(symbols, 100.0)
        self.halted = False
        self.seen: set[str] = set()
        self.tickets = itertools.count(1)
        self.positions: dict[int, dict[str, Any]] = {}
        self.events = itertools.count(1)

    async def frame(self, type: str, data: Any, **beside: Any) -> None:
        await self.socket.send(wire.encode(type, data, now_msc=now(), **beside), text=True)

    async def event(self, type: str, data: Any) -> None:
        """The same event on both channels, with one event_id."""
        event_id = f"e-{next(self.events)}"
        value = wire.encode(type, data, now_msc=now(), event_id=event_id)
        await self.producer.send_and_wait("mt5_events", value, key=ACCOUNT.encode())
        await self.socket.send(value, text=True)

    async def ticks(self) -> None:
        chance = random.Random(1)
        while True:
            for symbol in self.prices:
                self.prices[symbol] = price = round(self.prices[symbol] + chance.choice((-0.01, 0.01)), 2)
                data = {"symbol": symbol, "bid": price, "ask": round(price + 0.02, 2), "spread": 2, "time_msc": now()}
                value = wire.encode("tick_data", data, now_msc=now())
                await self.producer.send("tick_data", value, key=symbol.encode())
            await asyncio.sleep(0.1)

    async def state(self) -> None:
        while True:
            account = {"login": int(ACCOUNT), "currency": "USD", "balance": 1e4, "equity": 1e4, "margin": 0.0}
            await self.frame("account_info", account | {"free_margin": 1e4, "profit": 0.0})
            await self.frame("positions", list(self.positions.values()))
            await self.frame("heartbeat", {"status": "ok", "halt": "active", "channels": {}})
            await asyncio.sleep(0.3)

    async def result(self, signal: TradingSignal, status: str, reason: str | None = None, **more: Any) -> None:
        data = {"signal_id": signal.signal_id, "symbol": signal.symbol, "action": signal.action, "status": status}
        await self.event("order_result", data | {"reason": reason, "latency_ms": 1.5} | more)

    async def on_signal(self, value: bytes) -> None:
        try:
            signal = wire.decode_signal(wire.decode(value).data)
        except WireError as error:
            headers = [("reason", error.reason.encode())]
            await self.producer.send_and_wait("trading_signals.dlq", value, headers=headers)
            return
        if signal.signal_id in self.seen or str(signal.account or ACCOUNT) != ACCOUNT:
            return
        self.seen.add(str(signal.signal_id))
        reason = self.denial(signal)
        if reason:
            await self.result(signal, "denied", reason)
        elif signal.action in ("BUY", "SELL"):
            ticket = next(self.tickets)
            price = self.prices[signal.symbol]
            self.positions[ticket] = {"ticket": ticket, "symbol": signal.symbol, "side": signal.action.lower()}
            self.positions[ticket] |= {"volume": signal.volume, "price_open": price, "price_current": price}
            await self.result(signal, "filled", price=price, position=ticket)
        else:
            words = {"CLOSE": "closed", "MODIFY": "modified", "CANCEL": "cancelled"}
            await self.result(signal, words.get(signal.action, "placed"), price=signal.price)

    def denial(self, signal: TradingSignal) -> str | None:
        if self.halted:
            return "halted"
        if signal.created_at is not None and now() - parse_time(signal.created_at) > 5000:
            return "stale"
        if signal.symbol not in self.prices:
            return "unknown_symbol"
        if (signal.volume or 0) > 10:
            return "max_volume"
        return "no_stop_loss" if signal.action == "BUY" and signal.stop_loss is None else None

    async def signals(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            await self.on_signal(record.value)

    async def commands(self) -> None:
        async for raw in self.socket:
            envelope = wire.decode(raw.encode() if isinstance(raw, str) else raw)
            data: dict[str, Any] = msgspec.json.decode(envelope.data) or {}
            if envelope.type == "emergency_stop":
                await self.stop(envelope, data)
            elif envelope.request_id is not None:
                error = {"code": "unknown_command", "message": "this is a stand-in"}
                answer = {"command": envelope.type, "success": False, "error": error}
                await self.frame("command_result", answer, request_id=envelope.request_id)

    async def stop(self, envelope: wire.Envelope, data: dict[str, Any]) -> None:
        self.halted = True
        halt = {"state": "halted", "reason": data.get("reason") or "", "by": data.get("by") or "", "at": iso(now())}
        answer = {"command": "emergency_stop", "success": True, "data": halt | {"durable": True}}
        await self.frame("command_result", answer, request_id=envelope.request_id)
        await self.event("halt_changed", halt | {"phase": "latched"})
        closed = list(self.positions)
        self.positions.clear()
        await self.event("halt_changed", halt | {"phase": "done", "closed": closed, "cancelled": [], "survivors": []})


async def main() -> None:
    stop = asked_to_stop(with_stdin=True)
    bootstrap = os.environ["REDPANDA_BOOTSTRAP_SERVERS"]
    headers = {"Authorization": f"Bearer {os.environ['BACKEND_AUTH_TOKEN']}"}
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for topic in TOPICS:
        await producer.partitions_for(topic)
    consumer = AIOKafkaConsumer(
        "trading_signals", bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=20
    )
    await consumer.start()
    async with connect(os.environ["BACKEND_WS_URL"], additional_headers=headers, proxy=None) as socket:
        bridge = FakeBridge(socket, producer, os.environ["SYMBOLS"].split(","))
        hello = {"bridge_id": "fake", "version": "0", "mode": "hybrid", "account": ACCOUNT, "symbols": []}
        await bridge.frame("hello", hello | {"halt": {"state": "active", "reason": "", "by": "", "at": iso(now())}})
        work = (bridge.ticks(), bridge.state(), bridge.signals(consumer), bridge.commands())
        tasks = [asyncio.create_task(job) for job in work]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    asyncio.run(main())
