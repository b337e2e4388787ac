"""The host's own main, partly in this process, partly as the real child whose parent goes away."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from support.fresh_fake import FAKE_PATH, fresh_fake

from mt5_bridge.core.deadman import Pulse
from mt5_bridge.core.model import Deed, OrderRequest
from mt5_bridge.simulator.faults.gil import sleep_holding_the_gil
from mt5_bridge.terminal import host
from mt5_bridge.terminal.frames import BEAT, BYE, FrameReader, Reply, Request, pack, recall
from mt5_bridge.terminal.host_ops import Host
from mt5_bridge.terminal.inbox import Inbox, PipeInbox, ThreadInbox
from mt5_bridge.terminal.process import child_environment
from mt5_bridge.terminal.raw import ConnectArgs, DeadManArgs, OpenArgs

OPEN = OpenArgs("fake_mt5", "live", {"FAULT_positions_get": "hang"})
CONNECT = ConnectArgs(None, None, None, None, 1000, False)


class Sink:
    def __init__(self) -> None:
        self.frames = FrameReader()
        self.replies: list[Reply] = []

    def write(self, data: bytes | bytearray) -> int:
        for payload in self.frames.feed(data):
            self.replies.append(msgspec.msgpack.decode(payload, type=Reply))
        return len(data)


@contextlib.contextmanager
def hearing(said: bytes) -> Iterator[Inbox]:
    """The inbox of a host whose parent said that and went."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb") as pipe:
        pipe.write(said)
        pipe.close()
        inbox, gone = PipeInbox(reading), threading.Event()
        inbox.watch(gone.set)
        yield inbox
        assert gone.wait(10), "nobody reads a descriptor that will be another's"


def served(*requests: tuple[str, Any]) -> list[Reply]:
    """What a server in this process answers before its parent goes."""
    sink = Sink()
    with hearing(b"".join(pack(Request(number, *request)) for number, request in enumerate(requests))) as inbox:
        host.Server(inbox, sink).run()
    return sink.replies


@pytest.fixture
def fake_importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(FAKE_PATH)
    yield
    sys.modules.pop("fake_mt5", None)


@pytest.mark.usefixtures("fake_importable")
def test_the_first_frame_opens_the_terminal() -> None:
    replies = served(
        ("account", []), ("open", [OpenArgs("fake_mt5", "live", {})]), ("connect", [CONNECT]), ("account", [])
    )
    assert replies[0].failure is not None
    assert "open" in replies[0].failure.text
    assert msgspec.msgpack.decode(replies[1].result) == os.getpid()
    assert [r.failure for r in replies[2:]] == [None, None]
    assert replies[3].result == replies[2].result


@pytest.mark.usefixtures("fake_importable")
def test_before_a_log_in_there_is_nothing_to_act_on(tmp_path: Path) -> None:
    opening = msgspec.structs.replace(
        OPEN, settings={}, deadman=DeadManArgs("flatten", None, "all", 235, str(tmp_path))
    )
    served(("open", [opening]))
    assert not list(tmp_path.glob("deadman-*"))
    with hearing(b"") as inbox:
        server = host.Server(inbox, Sink())
        server._answer(Request(1, "open", [msgspec.to_builtins(opening)]))
        assert not server.armed
        server._answer(Request(2, "connect", [msgspec.to_builtins(CONNECT)]))
        assert server.armed
        inbox.dismissed = True
        assert not server.armed


@pytest.mark.usefixtures("fake_importable")
def test_failures_are_answered_and_the_next_request_is_served() -> None:
    replies = served(
        ("open", [OpenArgs("no_such_module", "live", {})]),
        ("open", [OpenArgs("fake_mt5", "live", {"REFUSE": "PAPER_SEED: wrong"})]),
        ("open", [OpenArgs("fake_mt5", "live", {"FAULT_positions_get": "raise"})]),
        ("positions", [None, None]),
        ("symbol", ["NOSUCH"]),
        ("symbol", []),
    )
    failures = [r.failure for r in replies]
    assert [f and f.kind for f in failures] == ["import", "settings", None, "bug", "terminal", "bug"]
    assert "PAPER_SEED" in str(failures[1])


@pytest.mark.skipif(sys.platform == "win32", reason="a child gets no numbered descriptors there")
@pytest.mark.parametrize("kind", sorted({PipeInbox, ThreadInbox}, key=str))
@pytest.mark.parametrize("back", [True, False])
def test_an_order_taken_back_during_a_call_that_holds_the_interpreter_is_not_sent(
    kind: type[Inbox], back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the official package's calls do: a thread that reads the pipe has not run since the first of two frames."""
    module = fresh_fake()
    account = module.account_info
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0) as pipe:
        inbox, gone = kind(reading), threading.Event()
        inbox.watch(gone.set)
        server = host.Server(inbox, Sink())
        server._host = Host(module)
        server._answer(Request(1, "connect", [msgspec.to_builtins(CONNECT)]))

        def account_info() -> Any:
            say = f"import os, time; os.write({writing}, {BEAT!r}); time.sleep(0.05); os.write({writing}, {said!r})"
            teller = subprocess.Popen([sys.executable, "-c", say], pass_fds=[writing])
            sleep_holding_the_gil(1.0)
            teller.wait(10)
            return account()

        said = bytes(recall(2)) if back else BEAT
        monkeypatch.setattr(module, "account_info", account_info)
        order = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, price=1.1)
        answer = server._answer(Request(2, "send", [None, None, msgspec.to_builtins(order), 0]))
        reply = msgspec.msgpack.decode(answer[4:], type=Reply)
        assert (reply.failure and reply.failure.kind) == ("withdrawn" if back else None)
        assert len(module._sent) == (0 if back else 1)
        pipe.close()
        assert gone.wait(10)


def test_a_module_without_settings_is_opened_as_it_is() -> None:
    assert isinstance(host.open_terminal(OpenArgs("types", "live", {})), Host)


@pytest.mark.parametrize("kind", sorted({PipeInbox, ThreadInbox}, key=str))
def test_who_beats_while_a_long_reply_waits_is_alive(kind: type[Inbox], monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that has much to do and reads late: its account is not to be touched."""
    monkeypatch.setattr(host.Server, "armed", True)
    reading, writing = os.pipe()
    read_late, replies = os.pipe()
    reply = bytearray(1_000_000)
    with os.fdopen(reading, "rb", buffering=0), os.fdopen(read_late, "rb") as pipe, os.fdopen(replies, "wb"):
        inbox, gone = kind(reading), threading.Event()
        inbox.watch(gone.set)
        server = host.Server(inbox, host.Whole(replies))
        server._pulse = Pulse(0.4)
        judge, turns, over = server._judge, list[float](), threading.Event()

        def counted(began: float) -> bool:
            turns.append(began)
            return judge(began)

        def beats_and_reads() -> int:
            while len(turns) < 20 and not over.wait(0.02):
                os.write(writing, BEAT)
            return len(pipe.read(len(reply)))

        monkeypatch.setattr(server, "_judge", counted)
        with ThreadPoolExecutor(1) as pool:
            daemon = pool.submit(beats_and_reads)
            taken = server._reply(reply)
            over.set()
            assert daemon.result(60) == len(reply)
        os.close(writing)
        assert gone.wait(10)
    assert taken


def test_whole_frames_pass_a_narrow_pipe() -> None:
    reading, writing = os.pipe()
    data = bytes(range(256)) * 4000
    found = io.BytesIO()

    def drain() -> None:
        while piece := os.read(reading, 1000):
            found.write(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    assert host.Whole(writing).write(data) == len(data)
    os.close(writing)
    thread.join()
    os.close(reading)
    assert found.getvalue() == data


class Child:
    """A real host, spoken to without asyncio."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mt5_bridge.terminal.host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment((FAKE_PATH,)),
        )
        self.frames = FrameReader()

    def ask(self, number: int, op: str, *args: Any) -> None:
        self.say(pack(Request(number, op, list(args))))

    def say(self, data: bytes | bytearray) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def arm(self, folder: Path) -> None:
        """Log in with a dead-man's switch that would close everything."""
        switch = DeadManArgs("flatten", 0.5, "all", 235, str(folder))
        self.ask(1, "open", msgspec.structs.replace(OPEN, deadman=switch))
        assert self.answer().failure is None
        self.ask(2, "connect", CONNECT)
        assert self.answer().failure is None

    def answer(self) -> Reply:
        assert self.process.stdout is not None
        while True:
            for payload in self.frames.feed(os.read(self.process.stdout.fileno(), 65536)):
                return msgspec.msgpack.decode(payload, type=Reply)

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def code(self) -> int:
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


def test_the_host_ends_with_its_parent() -> None:
    child = Child()
    child.ask(1, "open", OPEN)
    assert child.answer().failure is None
    child.leave()
    assert child.code() == 0


def test_the_host_ends_with_its_parent_even_in_a_call_that_hangs() -> None:
    child = Child()
    child.ask(1, "open", OPEN)
    assert child.answer().failure is None
    child.ask(2, "positions", None, None)
    child.leave()
    assert child.code() == 1


def test_a_goodbye_during_a_call_that_hangs_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    child = Child()
    child.arm(tmp_path)
    child.ask(3, "positions", None, None)
    child.say(BYE)
    child.leave()
    assert child.code() == 1
    assert not list(tmp_path.glob("deadman-*"))


def test_who_cannot_be_understood_is_not_dead(tmp_path: Path) -> None:
    """The daemon sees the host end and starts another; its account is not touched."""
    child = Child()
    child.arm(tmp_path)
    child.say(b"\xff" * 8)
    assert child.code() == 1
    child.leave()
    assert not list(tmp_path.glob("deadman-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+C goes to a console's group, from which the host is apart")
def test_an_interrupt_is_the_daemons_to_order() -> None:
    child = Child()
    child.ask(1, "open", OPEN)
    assert child.answer().failure is None
    child.process.send_signal(signal.SIGINT)
    child.ask(2, "connect", CONNECT)
    assert child.answer().failure is None
    child.leave()
    assert child.code() == 0


def test_the_host_stays_small_and_without_what_only_the_daemon_needs() -> None:
    child = Child()
    child.ask(1, "open", OPEN)
    assert child.answer().failure is None
    rss = psutil.Process(child.process.pid).memory_info().rss
    child.leave()
    assert child.code() == 0
    assert rss < 40 * 2**20
    # What was there before is the interpreter's, or that of a measuring of coverage.
    listed = "import sys; there = {*sys.modules}; import mt5_bridge.terminal.host; print(*sys.modules.keys() - there)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", listed], capture_output=True, text=True, check=True, env=child_environment()
    ).stdout.split()
    assert "mt5_bridge.terminal.host" in found
    assert not {"numpy", "asyncio", "loguru", "pydantic", "tenacity", "hashlib"} & set(found)


def test_the_daemons_side_never_imports_numpy() -> None:
    listed = "import sys, mt5_bridge.terminal.session; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", listed], capture_output=True, text=True, check=True, env=child_environment()
    ).stdout.split()
    assert not {"numpy", "MetaTrader5", "mt5_bridge.simulator"} & set(found)


def test_the_child_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT5_PASSWORD", "hunter2")
    monkeypatch.setenv("BACKEND_AUTH_TOKEN", "hunter2")
    monkeypatch.setenv("SIGNAL_HMAC_KEY", "hunter2")
    assert "hunter2" not in str(child_environment())
