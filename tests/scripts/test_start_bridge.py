"""What a double click does: preparing, starting, starting again, and giving up where that is right."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from support.eventually import poll_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def start() -> ModuleType:
    import start_bridge

    return start_bridge


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env.example").write_text("TERMINAL=mt5\n")
    return tmp_path


class Steps:
    """Plays the commands; gives the exit codes in turn, then 0."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(list(command)[1:])
        return self.codes.pop(0) if self.codes else 0


@pytest.fixture
def steps(start: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Steps:
    played = Steps()
    monkeypatch.setattr(start, "python_for", lambda purpose: Path(f"python-{purpose}"))
    monkeypatch.setattr(start, "beside", played)
    monkeypatch.setattr(start, "keep", played)
    return played


@pytest.mark.parametrize(
    ("arguments", "mode", "script"),
    [([], "hybrid", "hybrid_bridge.py"), (["standard"], "standard", "run_bridge.py"), (["HYBRID"], "hybrid", None)],
)
def test_everything_in_its_order(
    start: ModuleType, steps: Steps, folder: Path, arguments: list[str], mode: str, script: str | None
) -> None:
    assert start.main(arguments, folder) == 0
    assert steps.commands == [
        ["-m", "mt5_bridge", "init", "--missing", "--mode", mode],
        ["-m", "mt5_bridge", "config", "check", "--set", f"MODE={mode}"],
        [script or "hybrid_bridge.py"],
    ]
    assert (folder / ".env").read_text() == "TERMINAL=mt5\n"


def test_the_demo_needs_no_settings(start: ModuleType, steps: Steps, folder: Path) -> None:
    assert start.main(["demo"], folder) == 0
    assert steps.commands == [["-m", "mt5_bridge", "demo"]]
    assert not (folder / ".env").exists()


def test_settings_that_are_there_are_left_alone(start: ModuleType, steps: Steps, folder: Path) -> None:
    (folder / ".env").write_text("TERMINAL=paper\n")
    assert start.main([], folder) == 0
    assert (folder / ".env").read_text() == "TERMINAL=paper\n"


@pytest.mark.parametrize(
    ("codes", "code", "started"), [((2,), 2, 1), ((0, 2), 2, 2), ((0, 9), 9, 2), ((0, 0, 3), 3, 3)]
)
def test_a_step_that_fails_ends_it(
    start: ModuleType, steps: Steps, folder: Path, codes: tuple[int, ...], code: int, started: int
) -> None:
    steps.codes = list(codes)
    assert start.main([], folder) == code
    assert len(steps.commands) == started


@pytest.mark.parametrize("arguments", [["live"], ["hybrid", "now"]])
def test_wrong_arguments(start: ModuleType, steps: Steps, folder: Path, arguments: list[str]) -> None:
    assert start.main(arguments, folder) == 2
    assert steps.commands == []


def test_an_environment_that_cannot_be_made(
    start: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(purpose: str) -> Path:
        raise start.SetupError("no index")

    monkeypatch.setattr(start, "python_for", fail)
    assert start.main([], folder) == 2
    assert "no index" in capsys.readouterr().out


class Runs:
    """A program's runs: (seconds it lived, exit code) in turn, on a clock of their own."""

    def __init__(self, *runs: tuple[float, int]) -> None:
        self.runs = list(runs)
        self.now = 0.0
        self.pauses: list[float] = []
        self.said: list[str] = []
        self.asked_after: int | None = None

    def start(self) -> int:
        lived, code = self.runs.pop(0)
        self.now += lived
        return code

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now += seconds
        return self.asked_after is not None and len(self.pauses) >= self.asked_after


def kept(start: ModuleType, runs: Runs) -> int:
    code: int = start.Keeper(runs.start, runs.wait, lambda: runs.now, runs.said.append).run()
    return code


@pytest.mark.parametrize("code", [0, 2, 3, 4])
def test_what_a_restart_cannot_mend_ends_it(start: ModuleType, code: int) -> None:
    runs = Runs((1, code))
    assert kept(start, runs) == code
    assert runs.pauses == []
    assert runs.said == [start.FINAL[code]]


def test_a_crash_is_answered_by_a_restart_after_a_growing_pause(start: ModuleType) -> None:
    runs = Runs(*[(1.0, 1)] * 5, (1.0, -9), (1.0, 3221225477), (1.0, 1), (700.0, 1), (1.0, 1), (1.0, 0))
    assert kept(start, runs) == 0
    assert runs.pauses == [5, 10, 20, 40, 80, 160, 300, 300, 5, 10]
    assert "starts again in 5 s" in runs.said[0]


def test_nobody_is_held_in_a_pause(start: ModuleType) -> None:
    runs = Runs((1, 1), (1, 1))
    runs.asked_after = 2
    assert kept(start, runs) == 0


def test_a_crash_ends_the_pause_when_asked(start: ModuleType) -> None:
    asked = threading.Event()
    wait = start._until(asked)
    assert wait(0.0) is False
    asked.set()
    assert wait(60.0) is True


def test_a_real_program_is_started_again_until_it_ends_for_good(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "FIRST_PAUSE_S", 0.01)
    code = f"p={str(tmp_path / 'n')!r}; open(p,'a').write('x'); raise SystemExit(4 if len(open(p).read())>2 else 1)"
    before = signal.getsignal(signal.SIGINT)
    assert start.keep([sys.executable, "-c", code]) == 4
    assert (tmp_path / "n").read_text() == "xxx"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_it_ends_the_program_and_itself(tmp_path: Path, number: signal.Signals) -> None:
    """The program leaves a mark when it was told to end, and an exit code that would ask for a restart."""
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, signal, sys, time\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "def end(*_):\n    (here / 'told').write_text('')\n    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, end)\nsignal.signal(signal.SIGINT, end)\n"
        "(here / 'up').write_text('')\n"
        "while True:\n    time.sleep(0.05)\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\nimport start_bridge\n"
        f"sys.exit(start_bridge.keep([sys.executable, {str(program)!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as keeper:
        try:
            assert poll_until((tmp_path / "up").exists, 15)
            if number == signal.SIGINT:
                os.killpg(keeper.pid, number)  # as a terminal does
            else:
                keeper.terminate()
            assert keeper.wait(10) == 0
        finally:
            keeper.kill()
    assert (tmp_path / "told").exists()


def test_the_batch_file_leaves_every_decision_to_python() -> None:
    raw = (ROOT / "start_bridge.bat").read_bytes()
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert raw.isascii()
    text = raw.decode().lower()
    assert "scripts\\start_bridge.py %*" in text
    assert "pause" in text
    for word in ("powershell", "curl", "findstr", "tasklist", "where ", "timeout", "&&", "||"):
        assert word not in text


@pytest.mark.parametrize(
    ("environment", "file", "wants"),
    [
        ("", "GATEWAY_ENABLED=true\n", True),
        ("", "X=1\n export gateway_enabled = 'Yes' # now\n", True),
        ("", "GATEWAY_ENABLED=true\nGATEWAY_ENABLED=off\n", False),
        ("", "# GATEWAY_ENABLED=true\n", False),
        ("", "", False),
        ("1", "GATEWAY_ENABLED=false\n", True),
        ("false", "GATEWAY_ENABLED=true\n", False),
    ],
)
def test_a_gateway_brings_its_packages(
    start: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, environment: str, file: str, wants: bool
) -> None:
    monkeypatch.setenv("GATEWAY_ENABLED", environment)
    (folder / ".env").write_text(file)
    assert start.wants_gateway(folder) is wants
    asked: list[str] = []

    def python_for(purpose: str) -> Path:
        asked.append(purpose)
        return Path("python")

    monkeypatch.setattr(start, "python_for", python_for)
    monkeypatch.setattr(start, "beside", lambda command: 0)
    monkeypatch.setattr(start, "keep", lambda command: 0)
    start.main([], folder)
    assert asked == ["gateway" if wants else "bridge"]
