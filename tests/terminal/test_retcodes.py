import json
from pathlib import Path

import pytest

from mt5_bridge.core.intent import Verdict
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import TradeResult
from mt5_bridge.terminal.retcodes import classify, reason, text

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "mt5_contract.json").read_text(encoding="utf-8"))
CODES = {n: v for n, v in CONTRACT["constants"]["values"].items() if n.startswith("TRADE_RETCODE_")}
CLASSES = {
    "success": {Verdict.DONE, Verdict.PLACED, Verdict.PARTIAL},
    "success_noop": {Verdict.NO_CHANGES},
    "retry_same_intent_after_fresh_quote_definitely_not_executed": {Verdict.RETRY},
    "retry_after_backoff_definitely_not_executed": {Verdict.BACK_OFF},
    "unknown_outcome_reconcile_before_anything": {Verdict.UNKNOWN},
    "requery_state_then_decide": {Verdict.REQUERY},
    "final_for_this_signal": {Verdict.FINAL},
    "halt_and_alarm": {Verdict.SYMBOL_BLOCKED, Verdict.NOT_READY, Verdict.HALT},
}


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        (name, policy)
        for policy, names in CONTRACT["retcode_policy"]["classes"].items()
        for name in names
        if name in CODES
    ],
)
def test_every_code_has_the_verdict_of_the_policy(name: str, policy: str) -> None:
    assert classify(TradeResult(retcode=CODES[name])) in CLASSES[policy]
    assert not text(CODES[name]).startswith("Unknown")


def test_every_code_of_the_package_is_in_the_policy() -> None:
    listed = {name for names in CONTRACT["retcode_policy"]["classes"].values() for name in names}
    assert set(CODES) <= listed


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (10017, Verdict.SYMBOL_BLOCKED),
        (10026, Verdict.NOT_READY),
        (10027, Verdict.NOT_READY),
        (10032, Verdict.HALT),
        (10025, Verdict.NO_CHANGES),
        (0, Verdict.UNKNOWN),
        (10001, Verdict.UNKNOWN),
        (99999, Verdict.UNKNOWN),
    ],
)
def test_special_codes(code: int, verdict: Verdict) -> None:
    assert classify(TradeResult(retcode=code)) is verdict


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(-2, "not_sent"), (-8, "not_sent"), (-10003, "not_sent"), (-10004, "not_sent")]
    + [(e, "unknown") for e in (1, -1, -3, -4, -10000, -10001, -10002, -10005)],
)
def test_no_answer_is_unknown_unless_it_never_left(error: int, verdict: str) -> None:
    assert classify(TradeResult(retcode=None, last_error=error)) == verdict


def test_words_for_what_has_none() -> None:
    assert text(None) == "No answer from the terminal"
    assert text(12345) == "Unknown return code 12345"


def test_refusals_have_a_published_reason() -> None:
    assert reason(10018) is Reason.MARKET_CLOSED
    assert reason(10006) is Reason.TERMINAL_REFUSED
    assert reason(None) is Reason.TERMINAL_REFUSED
