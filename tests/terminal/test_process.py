"""The child process: its ends, and what it says on the way."""

import asyncio
import sys
from collections.abc import Callable

import pytest
from support.eventually import eventually
from support.logged import logged

from mt5_bridge.terminal.process import HostProcess


class Ends:
    """Collects what a process tells."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.reasons: list[str] = []

    async def start(self, monkeypatch: pytest.MonkeyPatch, script: str) -> HostProcess:
        """A child that runs `script` instead of a host."""
        loop = asyncio.get_running_loop()
        start = loop.subprocess_exec

        async def other(factory: Callable[[], HostProcess], *command: str, **options: object) -> object:
            return await start(factory, sys.executable, "-c", script, **options)  # type: ignore[arg-type]  # passed on

        monkeypatch.setattr(loop, "subprocess_exec", other)
        return await HostProcess.start(self.frames.append, self.reasons.append)


async def test_a_last_word_before_the_end_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    script = "import os; os.write(1, b'\\0\\0\\0\\2hi'); os._exit(3)"
    process = await ends.start(monkeypatch, script)
    await eventually(lambda: process.closed)
    assert ends.frames == [b"hi"]
    assert ends.reasons == ["it ended by itself"]
    process.write(b"into the void")
    process.kill("it is dead already")
    await process.close(1.0)
    assert len(ends.reasons) == 1


async def test_a_child_that_closes_its_output_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    process = await ends.start(monkeypatch, "import os, time; os.close(1); time.sleep(3600)")
    await eventually(lambda: process.closed)
    assert ends.reasons == ["it ended by itself"]


async def test_an_answer_is_heard_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a turn of the loop later: the next request waits for it."""
    ends = Ends()
    process = await ends.start(monkeypatch, "import time; time.sleep(3600)")
    transport = process._transport.get_pipe_transport(1)
    assert transport is not None
    replies = transport.get_protocol()
    assert isinstance(replies, asyncio.Protocol)
    replies.data_received(b"\0\0\0\2hi")
    assert ends.frames == [b"hi"]
    await process.close(0.0)


@pytest.mark.skipif(sys.platform == "win32", reason="what Wine does with inherited handles is not Windows")
async def test_an_end_is_noticed_though_a_grandchild_holds_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    script = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'],"
        " stderr=2); print('ready', file=sys.stderr)"
    )
    process = await ends.start(monkeypatch, script)
    await eventually(lambda: bool(ends.reasons))
    assert process.ended == "it ended by itself"
    await process.close(0.0)


async def test_nonsense_instead_of_frames_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    process = await ends.start(monkeypatch, "import time; print('no frame', flush=True); time.sleep(3600)")
    await eventually(lambda: process.closed)
    assert "announced" in ends.reasons[0]
    assert ends.frames == []


async def test_what_a_killed_host_still_says_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    process = await ends.start(monkeypatch, "import time; time.sleep(3600)")
    process.kill("the test wants it")
    process.pipe_data_received(1, b"\0\0\0\2hi")
    assert (ends.frames, ends.reasons) == ([], ["the test wants it"])
    await process.close(1.0)
    assert process.closed


async def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends()
    process = await ends.start(monkeypatch, "import time; time.sleep(3600)")
    await process.close(0.05)
    assert process.closed
    assert ends.reasons == ["it did not end"]


async def test_what_it_says_on_stderr_is_logged_by_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; e = sys.stderr; e.write('one\\n\\ntw'); e.flush(); e.write('o\\n' + 'x' * 9000)"
    with logged(level="WARNING") as lines:
        process = await Ends().start(monkeypatch, script)
        await eventually(lambda: process.closed)
    assert lines == ["Terminal host: one", "Terminal host: two"]
    assert len(process._line) <= 4096
