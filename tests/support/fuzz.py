"""Generated signals through the wire and the guards: whatever comes, a decision, and none that breaks a rule.

    python tests/support/fuzz.py --count 1000000             # from a seed of its own, which is printed
    python tests/support/fuzz.py --seed 7 --number 123456    # one case again, as a failure asks for it

A case is its seed and its number, so a failure needs no file to be repeated. Two of three signals begin as one that
passes, so that most get past the wire and deep into the chain; then fields, facts and bytes are spoilt.
"""

import argparse
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from decimal import Decimal
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (1, 2)]

import msgspec
from support.fuzz_cases import case

from mt5_bridge.core import wire
from mt5_bridge.core.decision import Approval, Context, Denial, Requester
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.guards import check_halt, early, evaluate, reduces_risk
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action

KEY = "k"
REPORT_EVERY = 10_000


class CaseError(Exception):
    """A case that broke a rule, or the code."""


def check(seed: int, number: int) -> str:
    """One case; returns what came of it.

    Raises:
        CaseError: with the frame, and the command that repeats it.
    """
    frame, context = case(seed, number)
    try:
        return _through(frame, context)
    except Exception as error:
        command = f"python tests/support/fuzz.py --seed {seed} --number {number}"
        raise CaseError(f"{error!r}\n  for {frame!r}\n  again: {command}") from error


def _through(frame: bytes, context: Callable[[TradingSignal], Context]) -> str:
    wire.peek(frame)
    wire.signature_matches(frame, KEY, wire.signature_of(frame, KEY))
    wire.derived_signal_id("t", 0, 1, None, frame)
    try:
        envelope = wire.decode(frame)
        signal = wire.decode_signal(envelope.data)
    except WireError as error:
        str(error).encode()
        return f"wire {error.reason}"
    msgspec.json.encode(signal)
    facts = context(signal)
    first, decision = early(facts), evaluate(facts)
    check_halt(signal, facts.halt, requester=facts.requester, target=facts.target)
    if isinstance(decision, Denial):
        told = json.loads(msgspec.json.encode(decision))
        _must(told["detail"] and told["code"] == decision.code, "a denial says why")
        _must(all(f is None or math.isfinite(f) for f in (decision.limit, decision.value)), f"figures {decision}")
        return f"denied {decision.code.value}"
    _must(first is None, f"approved in spite of {first}")
    _approved(facts, decision)
    return f"approved {signal.action.value}"


def _approved(ctx: Context, decision: Approval) -> None:
    signal, limits = ctx.signal, ctx.limits
    if ctx.requester is Requester.EMERGENCY and reduces_risk(signal, ctx.target):
        return  # what it closes and cancels passes by its origin
    person = ctx.requester is Requester.PERSON
    raises = signal.action.opens or (signal.action is Action.MODIFY and not reduces_risk(signal, ctx.target))
    _must(all(math.isfinite(f) and f >= 0 for f in msgspec.structs.astuple(decision)), f"figures {decision}")
    _must(ctx.halt.state is HaltState.ACTIVE or not raises, "nothing that raises risk passes a latch")
    _must(ctx.halt.state is not HaltState.HALTED or person, "no signal passes a halt")
    _must(ctx.now_msc - ctx.created_msc <= limits.signal_max_age_ms, "nothing old passes")
    _must(ctx.created_msc - ctx.now_msc <= limits.clock_skew_ms, "nothing from the future passes")
    if raises:
        _must(limits.trading_enabled, "trading is off")
        _must(ctx.readiness.why_not is None, "the terminal cannot trade")
        _must(not ctx.throttle_wait_ms, "over the rate")
    if signal.action.opens:
        _opening(ctx, decision)
    elif signal.action is Action.CLOSE:
        held = getattr(ctx.target, "volume", 0.0)
        _must(decision.volume <= held, f"closes {decision.volume} of {held}")


def _opening(ctx: Context, decision: Approval) -> None:
    limits, symbol, account = ctx.limits, ctx.symbol, ctx.account
    assert symbol is not None
    assert account is not None
    most = symbol.volume_max or math.inf  # 0 is a broker's mistake, not a limit
    _must(symbol.volume_min <= decision.volume <= most, f"volume {decision.volume}")
    _must(limits.max_volume is None or decision.volume <= limits.max_volume, f"volume {decision.volume}")
    if symbol.volume_step > 0:
        steps = Decimal(repr(decision.volume)) / Decimal(repr(symbol.volume_step))
        _must(steps == steps.to_integral_value(), f"volume {decision.volume} between the steps")
    if ctx.signal.volume is not None:
        _must(decision.volume <= ctx.signal.volume + 1e-9, f"{decision.volume} of {ctx.signal.volume} asked for")
    _must(bool(ctx.signal.stop_loss) or not limits.require_stop_loss, "an opening without stop")
    if limits.max_risk_percent is not None:
        most = account.equity * limits.max_risk_percent / 100
        _must(decision.risk <= most * (1 + 1e-9), f"risks {decision.risk} of {most}")
    _must(symbol.name not in ctx.blocked, "the symbol is blocked")


def _must(holds: bool, rule: str) -> None:
    if not holds:
        raise AssertionError(rule)


# --- many


def run(seed: int, numbers: range) -> Counter[str]:
    """Cases one after the other; how often each thing came of them."""
    return Counter(check(seed, number) for number in numbers)


def _many(seed: int, count: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    parts = [range(start, min(start + REPORT_EVERY, count)) for start in range(0, count, REPORT_EVERY)]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        try:
            for done in as_completed([pool.submit(run, seed, part) for part in parts]):
                seen += done.result()
        except CaseError:
            pool.shutdown(cancel_futures=True)
            raise
    return seen


def main() -> int:
    """Exit code 1 when a case fails."""
    parser = argparse.ArgumentParser(description="Generated signals through the wire and the guards.")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--number", type=int, help="this case alone")
    options = parser.parse_args()
    began = time.perf_counter()
    try:
        if options.number is not None:
            sys.stdout.write(f"{case(options.seed, options.number)[0]!r}\n{check(options.seed, options.number)}\n")
            return 0
        seen = _many(options.seed, options.count)
    except CaseError as error:
        sys.stderr.write(f"FAILED: {error}\n")
        return 1
    for what, times in seen.most_common():
        sys.stdout.write(f"{times:>10,}  {what}\n")
    took = time.perf_counter() - began
    sys.stdout.write(
        f"{seen.total():,} signals, seed {options.seed}: {took:.0f} s, {seen.total() / took:,.0f} a second\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
