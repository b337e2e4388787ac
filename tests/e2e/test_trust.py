"""Whose signals are taken: signed ones where a key is set, addressed ones where an account is required."""

import hashlib
import hmac
import time
from typing import Any

import pytest
from support.eventually import eventually
from support.topics import trading_signal, unique
from support.world import MakeWorld, World, price

KEY = "signing-secret"
LOGIN = "5000001"


async def fields(world: World, **more: Any) -> dict[str, Any]:
    """A signal that would fill, with all that a signed one needs."""
    bid = (await world.topics.quote("AUDUSD"))["bid"]
    base = {"volume": 0.01, "stop_loss": price(bid * 0.98, "AUDUSD"), "account": LOGIN}
    return {**base, "created_at": round(time.time() * 1000), **more}


def signature(value: bytes, key: str = KEY) -> str:
    return hmac.new(key.encode(), value, hashlib.sha256).hexdigest()


async def test_signed_signals_only(new_world: MakeWorld) -> None:
    async with new_world(SIGNAL_HMAC_KEY=KEY) as world:
        await world.start()
        unsigned, wrong, good = unique("unsigned"), unique("wrong"), unique("good")
        await world.topics.send(trading_signal(unsigned, "AUDUSD", "BUY", **await fields(world)))
        assert (await world.topics.result(unsigned))["reason"] == "bad_signature"

        value = trading_signal(wrong, "AUDUSD", "BUY", **await fields(world))
        await world.topics.send(value, headers={"signature": signature(value, "another key")})
        assert (await world.topics.result(wrong))["reason"] == "bad_signature"

        # The index is not poisoned: the same id, signed, is a signal.
        value = trading_signal(wrong, "AUDUSD", "BUY", **await fields(world))
        await world.topics.send(value, headers={"signature": signature(value)})
        await eventually(lambda: [f for f in world.topics.finals(wrong) if f["data"]["status"] == "filled"], 5.0)

        value = trading_signal(good, "AUDUSD", "BUY", **await fields(world, created_at=None))
        await world.topics.send(value, headers={"signature": signature(value)})
        assert (await world.topics.result(good))["status"] == "denied"

        # Over the socket the signature stands beside `type`, over the exact bytes of `data`.
        data = (
            b'{"signal_id": "ws-1",  "symbol":"AUDUSD","action":"CLOSE","account":"5000001","created_at":%d}'
            % round(time.time() * 1000)
        )
        frame = b'{"type":"trading_signal","signature":"%s","data":%s}' % (signature(data).encode(), data)
        await world.backend.send_raw(frame)
        result = await world.backend.frame("order_result", where=lambda f: f["data"]["signal_id"] == "ws-1")
        assert result["data"]["status"] == "closed"
        for text in (world.daemon.console, (world.daemon.data / "mt5_bridge.jsonl").read_text()):
            assert KEY not in text
        await world.daemon.stop()


@pytest.mark.deep
async def test_addressed_signals_only(new_world: MakeWorld) -> None:
    """A signal names our account, or its record's key does; rubbish for another login is left to it."""
    async with new_world(SIGNAL_REQUIRE_ACCOUNT="true") as world:
        await world.start()
        nameless = await fields(world, account=None)
        strangers = [unique("stranger") for _ in range(3)]
        await world.topics.send(b"rubbish", key="999")
        for signal_id, key in zip(strangers, ("999", "AUDUSD", None), strict=True):
            await world.topics.send(trading_signal(signal_id, "AUDUSD", "BUY", **nameless), key=key)
        by_key, by_value = unique("by-key"), unique("by-value")
        await world.topics.send(trading_signal(by_key, "AUDUSD", "BUY", **nameless), key=LOGIN)
        await world.topics.send(trading_signal(by_value, "AUDUSD", "BUY", **await fields(world)), key="AUDUSD")
        for signal_id in (by_key, by_value):
            assert (await world.topics.result(signal_id))["status"] == "filled"
        assert len(await world.ask("get_positions")) == 2
        assert world.topics.dead == []
        await world.daemon.stop()


@pytest.mark.deep
async def test_no_secret_is_ever_written(new_world: MakeWorld) -> None:
    secrets = {"MT5_PASSWORD": "hunter2hunter2", "BACKEND_AUTH_TOKEN": "backend-secret", "SIGNAL_HMAC_KEY": KEY}
    async with new_world(LOG_LEVEL="TRACE", MT5_LOGIN="77", MT5_SERVER="S-Demo", **secrets) as world:
        await world.start()
        await world.flowing()
        world.backend.cut()
        await world.hello(after=len(world.backend.frames))
        await world.daemon.stop()
        written = [p.read_bytes() for p in world.daemon.data.rglob("*") if p.is_file() and "paper" not in p.parts]
        for secret in secrets.values():
            assert not [text for text in (world.daemon.console.encode(), *written) if secret.encode() in text]
