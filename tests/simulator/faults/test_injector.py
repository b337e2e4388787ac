"""Which calls are struck, and how that is written down."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import mt5_bridge.simulator as mt5
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator.faults.injector import CRASH_EXIT_CODE, Fault, FaultInjector, Kind, fault

PLAIN = Fault(kind="none")
FIELDS = set(Fault.__struct_fields__) - {"kind", "function", "times", "text"}
SEND_ONLY = {
    "executed_then_timeout", "timeout", "no_connection", "server_error", "requote", "late_fill", "partial_fill",
    "bare_done", "comment_rewritten", "comment_truncated",
}  # fmt: skip
PAGE = Path(__file__).parents[3] / "docs/paper-terminal.md"


def strikes(injector: FaultInjector, calls: int, function: str = "order_send") -> list[bool]:
    return [bool(injector.strike(function)) for _ in range(calls)]


def test_the_nth_call_of_the_function_is_struck_once() -> None:
    injector = FaultInjector()
    injector.add(fault(kind="none", function="order_send", nth=3))
    assert strikes(injector, 5, "positions_get") == [False] * 5
    assert strikes(injector, 5) == [False, False, True, False, False]
    assert not injector


def test_from_the_nth_call_on_so_many_times() -> None:
    injector = FaultInjector()
    injector.add(fault(kind="none", nth=2, times=2))
    assert strikes(injector, 5) == [False, True, True, False, False]


def test_every_call_but_those_that_ask_nothing_of_the_terminal() -> None:
    injector = FaultInjector()
    injector.add(fault(kind="delay"))
    assert strikes(injector, 3, "version") == [True] * 3
    assert strikes(injector, 3, "shutdown") == [False] * 3


def test_probability_is_drawn_from_the_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        injector = FaultInjector(seed)
        injector.add(Fault(function="*", kind="none", probability=0.5))
        return strikes(injector, 50)

    assert drawn(1) == drawn(1) != drawn(2)
    assert 10 < sum(drawn(1)) < 40


def test_what_changes_the_terminal_does_so_once_unless_told_otherwise() -> None:
    assert fault(kind="terminal_restart").times == fault(kind="crash", nth=4).times == 1
    assert fault(kind="terminal_restart", probability=0.1).times is None
    assert fault(kind="requote", times=3).times == 3
    assert fault(kind="none").times is None


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_catalogue_has_the_kind_with_its_defaults(kind: str) -> None:
    rule = fault(kind=kind)
    [row] = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{kind}`")]
    _, name, what, defaults, why, _ = row.split("|")
    assert ("¹" in name) == (rule.times == 1)
    assert len(what) > 10
    assert len(why) > 10
    told = {field: yaml.safe_load(value) for field, value in re.findall(r"`(\w+): ([^`]*)`", defaults)}
    assert told == {field: getattr(rule, field) for field in told}
    assert {field for field in FIELDS if getattr(rule, field) != getattr(PLAIN, field)} <= told.keys()
    assert "function" in told or (kind in SEND_ONLY and rule.function == "order_send") or kind.endswith("_ticks")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "kind: None is unknown"),
        ({"kind": "dealy"}, r"kind: 'dealy' is unknown \(did you mean delay\?\)"),
        ({"kind": "delay", "secnds": 1}, r"secnds: delay knows no such thing \(did you mean seconds\?\); it"),
        ({"kind": "delay", "retcode": 1}, "retcode: delay knows no such thing"),
        ({"kind": "none", "function": "order_sned"}, r"no 'order_sned' \(did you mean order_send\?\)"),
        ({"kind": "none", "function": "last_error"}, "function: the package has no 'last_error'"),
        ({"kind": "requote", "function": "positions_get"}, "requote strikes order_send, not positions_get"),
        ({"kind": "none", "nth": 0}, "nth: 0 is not from 1"),
        ({"kind": "none", "nth": "2"}, "Expected `int"),
        ({"kind": "none", "times": 0}, "times: 0"),
        ({"kind": "none", "probability": 1.5}, "probability: 1.5 is not from 0 to 1"),
        ({"kind": "none", "probability": 0.5, "nth": 1}, "nth, probability: give one"),
        ({"kind": "delay", "seconds": -1}, "seconds: -1 is below 0"),
        ({"kind": "delay", "when": "during"}, "Invalid enum value"),
        ({"kind": "partial_fill", "share": 0}, "share: with 0"),
        ({"kind": "partial_fill", "share": 2}, "share: 2.0 is not"),
        ({"kind": "retcode", "retcode": -5}, "retcode: -5"),
        ({"kind": "account_swap", "login": -5}, "login: -5"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_told(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mt5.inject(**rule)


YAML = "seed: 4\nfaults:\n  - {function: account_info, kind: none, nth: 1, code: -10004}\n"
TOML = 'seed = 4\n[[faults]]\nfunction = "account_info"\nkind = "none"\nnth = 1\ncode = -10004\n'


@pytest.mark.parametrize(("name", "text"), [("f.yaml", YAML), ("f.toml", TOML)])
def test_a_script_is_read_at_initialize(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    market = mt5.install(clock="manual", PAPER_FAULTS=path)
    assert mt5.initialize()
    assert market.terminal.faults.seed == 4
    assert mt5.account_info() is None
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
    assert mt5.initialize()
    assert mt5.account_info() is not None
    mt5.uninstall()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("f.yaml", "faults: [", "expected the node content"),
        ("f.toml", "faults = [", "(?i)invalid|unclosed|line 1"),
        ("f.yaml", "", "there is no list named faults"),
        ("f.yaml", "seed: 1", "there is no list named faults"),
        ("f.yaml", "faults: []\nsede: 1", r"sede: unknown \(did you mean seed\?\)"),
        ("f.yaml", "faults: []\nseed: x", "seed: 'x' is not a whole number"),
        ("f.yaml", "faults: [none]", "fault 1: 'none' is not a set of names and values"),
        ("f.yaml", "faults: [{kind: none}, {kind: explode}]", "fault 2: kind: 'explode' is unknown"),
        ("f.yaml", None, "No such file"),
    ],
)
def test_a_bad_script_is_told(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message) as caught:
        FaultInjector().load(path)
    assert str(caught.value).startswith(f"PAPER_FAULTS: {path}: ")
    assert str(caught.value).endswith("; see docs/paper-terminal.md for the format")


def test_a_bad_script_keeps_the_terminal_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("faults: [{kind: explode}]", encoding="utf-8")
    mt5.install(clock="manual", PAPER_FAULTS=path)
    assert mt5.initialize() is False
    code, text = mt5.last_error()
    assert code == mt5.RES_E_INTERNAL_FAIL_INIT
    assert "explode" in text
    mt5.uninstall()


def test_waiting_hanging_and_dying_are_the_injectors_own() -> None:
    done: list[tuple[str, float]] = []

    def once(name: str) -> Any:
        def note(value: float) -> None:
            done.append((name, value))
            if len(done) > 4:
                raise InterruptedError

        return note

    injector = FaultInjector(sleep=once("sleep"), hold=once("hold"), die=once("die"))
    injector.wait(2)
    injector.wait(3, gil=True)
    injector.die()
    with pytest.raises(InterruptedError):
        injector.hang(gil=True)
    assert done == [("sleep", 2), ("hold", 3), ("die", CRASH_EXIT_CODE), ("hold", 3600.0), ("hold", 3600.0)]
