"""What must hold whatever is traded: money and volume are conserved, in every margin mode."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.properties import heavy

import mt5_bridge.simulator as mt5

ALWAYS = (0, 2**31 - 1)
SYMBOLS = ("EURUSD", "USDJPY", "EURJPY")
STARTS = {"EURUSD": 1.1, "USDJPY": 100.0, "EURJPY": 110.0}
volumes = st.integers(1, 300).map(lambda lots: lots / 100)
distances = st.sampled_from([0.0, 0.0002, 0.001, 0.01])


class Trading(RuleBasedStateMachine):
    """Random trades and prices against a paper account."""

    mode = "hedging"

    @initialize()
    def begin(self) -> None:
        self.market = mt5.install(clock="manual", margin_mode=self.mode, balance=5000)
        assert mt5.initialize()
        self.prices = dict(STARTS)
        for symbol, price in STARTS.items():
            mt5.symbol_select(symbol)
            self.market.tick(symbol, price, round(price * 1.0001, 5))

    def teardown(self) -> None:
        mt5.uninstall()

    def send(self, **request: Any) -> Any:
        result = mt5.order_send(request)
        assert result is not None, mt5.last_error()
        return result

    @rule(symbol=st.sampled_from(SYMBOLS), side=st.integers(0, 1), volume=volumes, sl=distances, tp=distances)
    def trade(self, symbol: str, side: int, volume: float, sl: float, tp: float) -> None:
        tick = mt5.symbol_info_tick(symbol)
        sign = 1 - 2 * side
        price = tick.bid if side == 0 else tick.ask
        stops = {"sl": price * (1 - sign * sl) if sl else 0.0, "tp": price * (1 + sign * tp) if tp else 0.0}
        result = self.send(action=1, symbol=symbol, type=side, volume=volume, **stops)
        if result.retcode == mt5.TRADE_RETCODE_DONE:
            assert result.price == (tick.ask if side == 0 else tick.bid)

    @rule(symbol=st.sampled_from(SYMBOLS), kind=st.integers(2, 5), volume=volumes, away=distances)
    def wait(self, symbol: str, kind: int, volume: float, away: float) -> None:
        tick = mt5.symbol_info_tick(symbol)
        below = kind in (mt5.ORDER_TYPE_BUY_LIMIT, mt5.ORDER_TYPE_SELL_STOP)
        price = tick.bid * (1 - away) if below else tick.ask * (1 + away)
        self.send(action=5, symbol=symbol, type=kind, volume=volume, price=price)

    @rule(symbol=st.sampled_from(SYMBOLS), move=st.floats(-0.02, 0.02))
    def quote(self, symbol: str, move: float) -> None:
        price = round(self.prices[symbol] * (1 + move), 3)
        self.prices[symbol] = price
        self.market.advance(1)
        self.market.tick(symbol, price, round(price * 1.0002, 5))

    @precondition(lambda self: mt5.positions_total())
    @rule(data=st.data(), part=st.integers(1, 4))
    def close(self, data: st.DataObject, part: int) -> None:
        position = data.draw(st.sampled_from(mt5.positions_get()))
        volume = max(0.01, round(position.volume / part, 2))
        result = self.send(
            action=1, symbol=position.symbol, type=1 - position.type, volume=volume, position=position.ticket
        )
        assert result.retcode == mt5.TRADE_RETCODE_DONE

    @precondition(lambda self: mt5.positions_total() > 1)
    @rule(data=st.data())
    def close_by(self, data: st.DataObject) -> None:
        one, other = (data.draw(st.sampled_from(mt5.positions_get())) for _ in range(2))
        self.send(action=10, position=one.ticket, position_by=other.ticket)

    @invariant()
    def the_balance_is_the_sum_of_the_deals(self) -> None:
        deals = mt5.history_deals_get(*ALWAYS)
        total = sum((Decimal(repr(deal.profit)) + Decimal(repr(deal.swap)) for deal in deals), Decimal(0))
        assert Decimal(repr(mt5.account_info().balance)) == total

    @invariant()
    def a_position_is_the_sum_of_its_deals(self) -> None:
        held = {position.identifier: 0 for position in mt5.positions_get()}
        for deal in mt5.history_deals_get(*ALWAYS):
            if deal.position_id in held:
                lots = round(deal.volume * 100)
                held[deal.position_id] += lots if deal.type == 0 else -lots
        for position in mt5.positions_get():
            assert held[position.identifier] == round(position.volume * 100) * (1 - 2 * position.type)

    @invariant()
    def no_ticket_is_given_twice(self) -> None:
        tickets = [deal.ticket for deal in mt5.history_deals_get(*ALWAYS)]
        tickets += [order.ticket for order in (*mt5.history_orders_get(*ALWAYS), *mt5.orders_get())]
        assert len(tickets) == len(set(tickets))

    @invariant()
    def the_account_agrees_with_its_positions(self) -> None:
        account, positions = mt5.account_info(), mt5.positions_get()
        assert account.profit == pytest.approx(sum(position.profit for position in positions), abs=1e-6)
        assert account.equity == pytest.approx(account.balance + account.profit, abs=1e-6)
        assert account.margin_free == pytest.approx(account.equity - account.margin, abs=1e-6)
        assert account.margin >= 0
        if self.mode == "netting":
            symbols = [position.symbol for position in positions]
            assert len(symbols) == len(set(symbols))
        if account.margin and not positions:
            pytest.fail("margin without positions")


class Netting(Trading):
    """The same on a netting account."""

    mode = "netting"


TestHedging = Trading.TestCase
TestNetting = Netting.TestCase
TestHedging.settings = TestNetting.settings = settings(max_examples=heavy(12), stateful_step_count=25)
