"""What must hold whatever is traded: money, volume, tickets and history are conserved, in every margin mode.

A machine trades at random through the public functions, with the manual clock: after every step the account is added
up from its deals, in decimals, and compared with what it says of itself.
"""

import shutil
import tempfile
from collections import Counter
from decimal import Decimal
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.properties import heavy

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator.market.clock import ManualClock

ALWAYS = (0, 2**31 - 1)
STARTS = {"EURUSD": 1.12, "USDJPY": 86.6, "EURJPY": 97.1, "XAUUSD": 1517.0, "US500": 3230.0}
SYMBOLS = (*STARTS, "GBPUSD")
"""The last one walks by itself; the others move when the machine says so."""
EXECUTED = (mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED, mt5.TRADE_RETCODE_DONE_PARTIAL)

symbols = st.sampled_from(SYMBOLS)
lots = st.integers(1, 300)
writings = st.sampled_from(["quotient", "product", "sum"])
distances = st.sampled_from([0.0, 0.0002, 0.001, 0.01])


def decimal(value: float) -> Decimal:
    return Decimal(repr(value))


def written(symbol: str, lots: int, writing: str) -> float:
    """So many volume steps, as programs come by them: 3 steps may be 0.3 or 0.30000000000000004."""
    step, per_lot = (0.1, 10) if symbol == "US500" else (0.01, 100)
    if writing == "quotient":
        return lots / per_lot
    return lots * step if writing == "product" else reduce(add, [step] * lots)


def signed(side: int, volume: float) -> Decimal:
    return decimal(volume) * (1 - 2 * side)


class Trading(RuleBasedStateMachine):
    """Random trades, prices, pauses and restarts against a paper account."""

    mode = "hedging"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.deals: dict[int, Any] = {}
        self.history: dict[int, Any] = {}
        self.tickets: Counter[int] = Counter()

    @initialize(
        currency=st.sampled_from(["USD", "EUR", "JPY"]), stored=st.booleans(), leverage=st.sampled_from([30, 500])
    )
    def begin(self, currency: str, stored: bool, leverage: int) -> None:
        self.stored = stored
        self.deposit = Decimal(5000 if currency != "JPY" else 500_000)
        self.settings: dict[str, Any] = {
            "margin_mode": self.mode, "balance": self.deposit, "currency": currency, "leverage": leverage,
            **({"DATA_DIR": self.folder} if stored else {}),
        }  # fmt: skip
        self.money = Decimal(1) if currency == "JPY" else Decimal("0.01")
        self.market = mt5.install(clock="manual", **self.settings)
        self.open()
        self.prices = dict(STARTS)
        for symbol in STARTS:
            self.tick(symbol, self.prices[symbol])

    def open(self) -> None:
        assert mt5.initialize(), mt5.last_error()
        for symbol in SYMBOLS:
            mt5.symbol_select(symbol)

    def tick(self, symbol: str, price: float) -> None:
        digits = self.market.specs[symbol].digits
        self.market.tick(symbol, round(price, digits), round(price * 1.0002, digits))

    def teardown(self) -> None:
        mt5.uninstall()
        shutil.rmtree(self.folder)

    def send(self, **request: Any) -> Any:
        """Sends, and holds the answer against what happened and against what a check foretold."""
        request.setdefault("type_filling", mt5.ORDER_FILLING_IOC if request.get("symbol") == "US500" else 0)
        before = self.books()
        check = mt5.order_check(request)
        assert self.books() == before, "a check changes nothing"
        result = mt5.order_send(request)
        note(f"{request} -> {check.retcode} {result.retcode}")
        done = result.retcode in EXECUTED
        assert done == (check.retcode == 0)
        assert done == (self.books() != before), "executed if and only if something changed"
        if (
            done
            and request["action"] == mt5.TRADE_ACTION_DEAL
            and not (self.mode == "hedging" and "position" in request)
        ):
            assert mt5.account_info().margin == pytest.approx(check.margin, rel=1e-3, abs=float(2 * self.money))
        return result

    def books(self) -> Any:
        return (
            mt5.account_info().balance,
            [position[:15] for position in mt5.positions_get()],
            [order[:19] + order[20:] for order in mt5.orders_get()],
            mt5.history_orders_total(*ALWAYS),
            mt5.history_deals_total(*ALWAYS),
        )

    @rule(symbol=symbols, side=st.integers(0, 1), lots=lots, writing=writings, sl=distances, tp=distances)
    def trade(self, symbol: str, side: int, lots: int, writing: str, sl: float, tp: float) -> None:
        tick = mt5.symbol_info_tick(symbol)
        sign = 1 - 2 * side
        price = tick.bid if side == 0 else tick.ask
        stops = {"sl": price * (1 - sign * sl) if sl else 0.0, "tp": price * (1 + sign * tp) if tp else 0.0}
        volume = written(symbol, lots, writing)
        result = self.send(action=1, symbol=symbol, type=side, volume=volume, **stops)
        if result.retcode == mt5.TRADE_RETCODE_DONE:
            assert result.price == (tick.ask if side == 0 else tick.bid)

    @rule(
        symbol=symbols, kind=st.integers(2, 7), lots=lots, writing=writings, away=distances,
        life=st.sampled_from([0, 0, 60]), filling=st.integers(0, 2),
    )  # fmt: skip
    def wait(self, symbol: str, kind: int, lots: int, writing: str, away: float, life: int, filling: int) -> None:
        tick = mt5.symbol_info_tick(symbol)
        below = kind in (mt5.ORDER_TYPE_BUY_LIMIT, mt5.ORDER_TYPE_SELL_STOP, mt5.ORDER_TYPE_SELL_STOP_LIMIT)
        price = tick.bid * (1 - away) if below else tick.ask * (1 + away)
        limit = price * (1.001 if below else 0.999) if kind > 5 else 0.0
        expiry = {"type_time": mt5.ORDER_TIME_SPECIFIED, "expiration": tick.time + life} if life else {}
        self.send(
            action=5, symbol=symbol, type=kind, volume=written(symbol, lots, writing), price=price, stoplimit=limit,
            type_filling=filling, **expiry,
        )  # fmt: skip

    @precondition(lambda self: mt5.orders_total())
    @rule(data=st.data(), by=distances)
    def move_or_remove(self, data: st.DataObject, by: float) -> None:
        order = data.draw(st.sampled_from(mt5.orders_get()))
        if by:
            price, limit = order.price_open * (1 + by), order.price_stoplimit * (1 + by)
            self.send(action=7, order=order.ticket, symbol=order.symbol, price=price, stoplimit=limit)
        else:
            self.send(action=8, order=order.ticket)

    @precondition(lambda self: mt5.positions_total())
    @rule(data=st.data(), sl=distances, tp=distances)
    def protect(self, data: st.DataObject, sl: float, tp: float) -> None:
        position = data.draw(st.sampled_from(mt5.positions_get()))
        sign = 1 - 2 * position.type
        levels = {
            "sl": position.price_current * (1 - sign * sl) if sl else 0.0,
            "tp": position.price_current * (1 + sign * tp) if tp else 0.0,
        }
        self.send(action=6, position=position.ticket, symbol=position.symbol, **levels)

    @precondition(lambda self: mt5.positions_total())
    @rule(data=st.data(), part=st.integers(1, 4), writing=writings)
    def close(self, data: st.DataObject, part: int, writing: str) -> None:
        position = data.draw(st.sampled_from(mt5.positions_get()))
        steps = round(position.volume * (10 if position.symbol == "US500" else 100))
        volume = written(position.symbol, max(1, steps // part), writing)
        result = self.send(
            action=1, symbol=position.symbol, type=1 - position.type, volume=volume, position=position.ticket
        )
        assert result.retcode == mt5.TRADE_RETCODE_DONE

    @precondition(lambda self: mt5.positions_total() > 1)
    @rule(data=st.data())
    def close_by(self, data: st.DataObject) -> None:
        one, other = (data.draw(st.sampled_from(mt5.positions_get())) for _ in range(2))
        self.send(action=10, position=one.ticket, position_by=other.ticket)

    @rule(symbol=st.sampled_from(sorted(STARTS)), move=st.floats(-0.02, 0.02), pause=st.sampled_from([0.001, 1.0]))
    def quote(self, symbol: str, move: float, pause: float) -> None:
        self.prices[symbol] *= 1 + move
        self.market.advance(pause)
        self.tick(symbol, self.prices[symbol])

    @rule(seconds=st.sampled_from([0.001, 0.5, 60.0, 7200.0, 100_000.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.market.advance(seconds)

    @precondition(lambda self: self.stored)
    @rule(away=st.sampled_from([1, 3_600_000]))
    def restart(self, away: int) -> None:
        """The market's own ticks take over from the machine's, as if those had never been."""
        self.market = mt5.install(clock=ManualClock(self.market.now() + away), **self.settings)
        self.open()

    @invariant()
    def all_adds_up(self) -> None:
        self.the_past_only_grows()
        self.the_balance_is_the_sum_of_the_deals()
        self.a_position_is_the_sum_of_its_deals()
        self.an_order_is_the_sum_of_its_deals()
        self.the_account_agrees_with_its_positions()

    def the_past_only_grows(self) -> None:
        deals = {deal.ticket: deal for deal in mt5.history_deals_get(*ALWAYS)}
        history = {order.ticket: order for order in mt5.history_orders_get(*ALWAYS)}
        assert len(deals) == mt5.history_deals_total(*ALWAYS)
        assert len(history) == mt5.history_orders_total(*ALWAYS)
        assert self.deals.items() <= deals.items()
        assert self.history.items() <= history.items()
        for deal in [deal for ticket, deal in deals.items() if ticket not in self.deals and deal.symbol]:
            self.at_the_right_side(deal)
        waiting = {order.ticket for order in mt5.orders_get()}
        assert not waiting & history.keys(), "an order waits or is done"
        assert len(waiting | history.keys() | deals.keys()) == len(waiting) + len(history) + len(deals), (
            "a ticket twice"
        )
        new = (waiting | history.keys() | deals.keys()) - self.tickets.keys()
        assert min(new, default=1 << 62) > max(self.tickets, default=0), "a ticket given again"
        self.tickets.update(new)
        self.deals, self.history = deals, history

    def at_the_right_side(self, deal: Any) -> None:
        """Bought at the ask of its moment or dearer, sold at the bid or cheaper; only a close-by has no market."""
        market = self.market.market
        quote = market.quote(deal.symbol, market.utc(deal.time_msc))
        assert quote is not None
        if deal.entry != mt5.DEAL_ENTRY_OUT_BY:
            assert deal.price >= quote.ask if deal.type == mt5.DEAL_TYPE_BUY else deal.price <= quote.bid

    def the_balance_is_the_sum_of_the_deals(self) -> None:
        amounts = [
            sum((decimal(amount) for amount in (deal.profit, deal.swap, deal.commission, deal.fee)), Decimal(0))
            for deal in self.deals.values()
        ]
        assert all(amount == amount.quantize(self.money) for amount in amounts)
        assert decimal(mt5.account_info().balance) == sum(amounts)
        paid = [deal.profit for deal in self.deals.values() if deal.type == mt5.DEAL_TYPE_BALANCE]
        assert list(map(decimal, paid)) == [self.deposit]

    def a_position_is_the_sum_of_its_deals(self) -> None:
        sums: dict[int, Decimal] = {}
        for deal in self.deals.values():
            if deal.symbol:
                sums[deal.position_id] = sums.get(deal.position_id, Decimal(0)) + signed(deal.type, deal.volume)
        positions = mt5.positions_get()
        held = {position.identifier: signed(position.type, position.volume) for position in positions}
        assert len(held) == len(positions) == mt5.positions_total()
        assert {number: total for number, total in sums.items() if total} == held
        if self.mode != "hedging":
            assert max(Counter(position.symbol for position in positions).values(), default=1) == 1

    def an_order_is_the_sum_of_its_deals(self) -> None:
        filled: dict[int, Decimal] = {}
        for deal in self.deals.values():
            if deal.symbol:
                filled[deal.order] = filled.get(deal.order, Decimal(0)) + decimal(deal.volume)
        orders = mt5.orders_get()
        assert len(orders) == mt5.orders_total()
        for order in (*orders, *self.history.values()):
            sides = 2 if order.type == mt5.ORDER_TYPE_CLOSE_BY else 1
            done = decimal(order.volume_initial) - decimal(order.volume_current)
            assert filled.pop(order.ticket, Decimal(0)) == sides * done
        assert not filled, "a deal without its order"

    def the_account_agrees_with_its_positions(self) -> None:
        account, positions = mt5.account_info(), mt5.positions_get()
        near = float(self.money) / 2
        profit, swap = (sum(getattr(position, name) for position in positions) for name in ("profit", "swap"))
        assert account.profit == pytest.approx(profit, abs=near)
        assert account.equity == pytest.approx(account.balance + account.credit + profit + swap, abs=near)
        assert account.margin_free == pytest.approx(account.equity - account.margin, abs=near)
        level = account.equity / account.margin * 100 if account.margin else 0.0
        assert account.margin_level == pytest.approx(level)
        assert account.margin > 0 if positions and self.mode != "hedging" else account.margin >= 0
        if not positions:
            assert (account.margin, account.profit) == (0.0, 0.0)


class Netting(Trading):
    """The same on a netting account."""

    mode = "netting"


class Exchange(Trading):
    """The same on an exchange account."""

    mode = "exchange"


TestHedging = Trading.TestCase
TestNetting = Netting.TestCase
TestExchange = Exchange.TestCase
TestHedging.settings = TestNetting.settings = TestExchange.settings = settings(
    max_examples=heavy(8), stateful_step_count=25
)
