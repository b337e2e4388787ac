"""SIGINT and SIGTERM end the daemon with 0 within 10 s and leave no process, whatever is down."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broker import MockBroker, free_port
from support.eventually import eventually
from support.topics import unique
from support.world import MakeWorld, sending


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_all_is_well(new_world: MakeWorld, number: int) -> None:
    async with new_world() as world:
        await world.start()
        await world.flowing()
        await world.daemon.stop(number)
        assert "Stopped" in world.daemon.console
        assert "ERROR" not in world.daemon.console


async def test_at_once_after_the_start(new_world: MakeWorld) -> None:
    """In whatever it is busy with; before Python has begun nothing can be promised."""
    async with new_world() as world:
        world.daemon.start()
        await eventually(lambda: "starts in" in world.daemon.console, 10.0)
        await world.daemon.stop()


@pytest.mark.deep
async def test_twice(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        world.daemon.ask_to_stop()
        world.daemon.ask_to_stop()
        assert await world.daemon.exit_code() == 0


async def test_with_neither_broker_nor_backend(new_world: MakeWorld) -> None:
    async with new_world() as world:
        world.daemon.start(
            env={
                "REDPANDA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
                "BACKEND_WS_URL": f"ws://127.0.0.1:{free_port()}/",
            }
        )
        await eventually(lambda: "Journal and terminal agree" in world.daemon.console, 10.0)
        await world.daemon.stop()


async def test_the_broker_died_with_ticks_and_results_on_their_way(
    new_world: MakeWorld, mock_broker: MockBroker
) -> None:
    async with new_world(bootstrap=mock_broker.bootstrap) as world:
        await world.start()
        await world.flowing()
        mock_broker.down()
        await world.ask("get_account")
        await world.backend.send("trading_signal", {"signal_id": unique(), "symbol": "AUDUSD", "action": "BUY"})
        await world.backend.frame("order_result")
        await world.daemon.stop()


@pytest.mark.deep
async def test_the_broker_hangs(new_world: MakeWorld, mock_broker: MockBroker) -> None:
    async with new_world(bootstrap=mock_broker.bootstrap) as world:
        await world.start()
        await world.flowing()
        mock_broker.slow(60_000)
        await world.backend.send("trading_signal", {"signal_id": unique(), "symbol": "AUDUSD", "action": "BUY"})
        await world.backend.frame("order_result")
        await world.daemon.stop(signal.SIGTERM)
        mock_broker.slow(0)


async def test_the_backend_does_not_read(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start(ACCOUNT_INTERVAL="0.1", HEARTBEAT_INTERVAL="0.1")
        world.backend.reading.clear()
        await world.flowing()
        await world.daemon.stop()


@pytest.fixture
def mute_server() -> Iterator[str]:
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"ws://127.0.0.1:{server.getsockname()[1]}/"


@pytest.mark.deep
async def test_the_backend_hangs_in_the_handshake(new_world: MakeWorld, mute_server: str) -> None:
    async with new_world() as world:
        world.daemon.start(env={"BACKEND_WS_URL": mute_server})
        await world.flowing()
        await world.daemon.stop()


async def test_the_terminal_hangs(new_world: MakeWorld) -> None:
    async with new_world() as world:
        await world.start()
        for host in world.daemon.hosts():
            host.suspend()
        await world.topics.signal(unique(), "AUDUSD", "BUY", volume=0.01, stop_loss=0.5)
        await world.daemon.stop()


@pytest.mark.parametrize(
    "function", ["initialize", *(pytest.param(f, marks=pytest.mark.deep) for f in ("account_info", "copy_ticks_from"))]
)
async def test_a_call_hangs(new_world: MakeWorld, tmp_path: Path, function: str) -> None:
    script = tmp_path / "faults.yaml"
    script.write_text(f"faults:\n  - {{function: {function}, kind: hang}}\n", encoding="utf-8")
    async with new_world() as world:
        world.daemon.start(env={"PAPER_FAULTS": str(script)})
        await world.hello()
        await world.daemon.stop(signal.SIGTERM)


async def test_an_order_is_in_flight(new_world: MakeWorld, tmp_path: Path) -> None:
    """It is journalled as unknown, its host killed; the next life finds what became of it, and says so once."""
    script = tmp_path / "faults.yaml"
    script.write_text("faults:\n  - {function: order_send, kind: hang, when: after, nth: 1}\n", encoding="utf-8")
    async with new_world() as world:
        await world.start(PAPER_FAULTS=str(script))
        quote = await world.topics.quote("AUDUSD")
        stop = round(quote["bid"] * 0.98, 5)
        await world.topics.signal("in-flight", "AUDUSD", "BUY", volume=0.01, stop_loss=stop)
        await eventually(lambda: sending(world.daemon.data), 5.0, "the order on its way")
        await world.daemon.stop()
        script.write_text("faults: []\n", encoding="utf-8")
        await world.start()
        assert (await world.topics.result("in-flight"))["status"] == "filled"
        assert len(world.topics.finals("in-flight")) == 1
        assert len(await world.ask("get_positions")) == 1
        await world.daemon.stop()
