"""The trade server's desk: executes what the judge lets pass, at what the market gives."""

from collections.abc import Callable
from typing import NamedTuple

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import fills, rules
from mt5_bridge.simulator.core.fills import Part
from mt5_bridge.simulator.core.matching import is_buy
from mt5_bridge.simulator.core.records import Order
from mt5_bridge.simulator.core.rules import OK, Request
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.trading.account import Account
from mt5_bridge.simulator.trading.engine import Engine
from mt5_bridge.simulator.trading.judge import Case, Judge, UnknownSymbolError, modified
from mt5_bridge.simulator.trading.valuation import Valuation

__all__ = ["Check", "Dealer", "Outcome", "UnknownSymbolError"]

_MAX_COMMENT = 31
_NOTHING = Valuation(0.0, 0.0, 0.0, 0.0, 0.0)


class Outcome(NamedTuple):
    """The server's answer to a request."""

    retcode: int
    deal: int = 0
    order: int = 0
    volume: float = 0.0
    price: float = 0.0
    bid: float = 0.0
    ask: float = 0.0


class Check(NamedTuple):
    """What a request would do: its retcode (0 passes), and the account afterwards; zeros where it is refused."""

    retcode: int
    balance: float = 0.0
    after: Valuation = _NOTHING


class Dealer:
    """Judges and executes. The account must be synchronised with the market up to now before every call.

    Args:
        market: the market.
        account: whose requests they are.
        engine: is told what changed.
        seed: of slippage and requotes.
    """

    def __init__(self, market: Market, account: Account, engine: Engine, seed: int = 0) -> None:
        self._market = market
        self._account = account
        self._ledger = account.ledger
        self._engine = engine
        self._seed = seed
        self._judge = Judge(market, account, engine)
        self.scarce: float | None = None
        """At most so many lots fill at once, also where all or nothing was asked for: a fault's doing."""
        self._actions: dict[int, Callable[[Case], Outcome]] = {
            c.TRADE_ACTION_DEAL: self._deal,
            c.TRADE_ACTION_PENDING: self._place,
            c.TRADE_ACTION_SLTP: self._set_stops,
            c.TRADE_ACTION_MODIFY: self._modify,
            c.TRADE_ACTION_REMOVE: self._remove,
            c.TRADE_ACTION_CLOSE_BY: self._close_by,
        }

    def check(self, request: Request, msc: int) -> Check:
        """Judges, and rehearses what would follow.

        Raises:
            UnknownSymbolError: the request's symbol does not exist.
        """
        case = self._judge.case(request, msc)
        if isinstance(case, int):
            return Check(case)
        retcode = self._judge.judge(case)
        if retcode not in (OK, c.TRADE_RETCODE_NO_MONEY):
            return Check(retcode)
        position = case.position.ticket if case.position is not None else 0
        with self._account.rehearsal(case.spec.name, (position, request.position_by, request.order)):
            copied = self._judge.case(request, msc)
            assert isinstance(copied, Case), "it was one before"
            outcome = self._actions[request.action](copied)
            return Check(retcode, float(self._ledger.balance), self._afterwards(case, outcome))

    def send(self, request: Request, msc: int) -> Outcome:
        """Judges, executes and writes.

        Raises:
            UnknownSymbolError: the request's symbol does not exist.
            sqlite3.Error: the store cannot be written; nothing was executed.
        """
        case = self._judge.case(request, msc)
        if isinstance(case, int):
            return Outcome(case)
        retcode = self._judge.judge(case)
        if retcode != OK:
            return Outcome(retcode, bid=case.quote.bid, ask=case.quote.ask)
        outcome = self._actions[request.action](case)
        self._engine.stale(case.spec.name)
        self._account.commit(msc)
        return outcome

    def _afterwards(self, case: Case, outcome: Outcome) -> Valuation:
        """The rehearsed account. What a deal opens counts at its own price, without the spread.

        `order_check` of the MQL5 reference shows a lot bought with an equity that is still the balance.
        """
        account, symbol = self._account, case.spec.name
        after = account.valuation()
        entries = {deal.entry for deal in self._ledger.change.deals}
        if not entries & {c.DEAL_ENTRY_IN, c.DEAL_ENTRY_INOUT}:
            return after
        pricer = account.pricer(symbol)
        assert pricer is not None, "it was dealt in"
        opened = self._ledger.positions[outcome.order] if account.hedging else self._ledger.of_symbol(symbol)
        assert opened is not None, "a deal opened it"
        profit = after.profit - pricer.profit(opened)
        if case.position is not None and c.DEAL_ENTRY_IN in entries:
            profit += pricer.profit(case.position)
        swap = sum(position.swap for position in self._ledger.positions.values())
        balance = float(self._ledger.balance)
        return account.valued(balance, profit, swap, after.assets, account.total_margin())

    # Executing.

    def _deal(self, case: Case) -> Outcome:
        request, quote = case.request, case.quote
        hedging = self._account.hedging
        order = self._order(case, position_id=request.position if hedging else 0)
        answer = Outcome(c.TRADE_RETCODE_REQUOTE, bid=quote.bid, ask=quote.ask)
        if fills.requoted(case.spec, self._seed, order.ticket):
            return answer
        buying = is_buy(request.type)
        best = fills.slipped(
            case.spec, quote.ask if buying else quote.bid, self._seed, order.ticket, buying=buying
        )  # fmt: skip
        limit = rules.worst_price(case.spec, request)
        if limit is not None and rules.beyond(case.spec, best, limit, buying=buying):
            return answer
        order.price_open = best
        if hedging and request.position:
            order.sl = order.tp = 0.0
        parts = fills.plan(case.spec, request.volume, best, buying=buying, limit=limit)
        if self.scarce is not None:
            parts = fills.cut(parts, self.scarce)
        whole = fills.filled(parts) >= request.volume
        if not whole and request.type_filling == c.ORDER_FILLING_FOK and self.scarce is None:
            return answer._replace(retcode=c.TRADE_RETCODE_REJECT)
        return self._fill(case, order, parts, whole=whole)

    def _fill(self, case: Case, order: Order, parts: list[Part], *, whole: bool) -> Outcome:
        """Books the parts. What is left is cancelled; of a RETURN order it waits, but where the trader names the price.

        MQL5 reference, "Order Properties": RETURN leaves a rest only under market and exchange execution.
        """
        waits = order.type_filling == c.ORDER_FILLING_RETURN and case.spec.execution not in rules.PRICED
        deals = [self._ledger.fill(order, part.price, order.time_setup_msc, part.volume) for part in parts]
        if not whole and waits:
            self._ledger.place(order)
        elif not whole:
            self._ledger.finish(order, c.ORDER_STATE_CANCELED, order.time_setup_msc, parts[-1].price)
        return Outcome(
            c.TRADE_RETCODE_DONE if whole else c.TRADE_RETCODE_DONE_PARTIAL, deals[-1].ticket, order.ticket,
            fills.filled(parts), fills.average(parts, case.spec.digits), case.quote.bid, case.quote.ask,
        )  # fmt: skip

    def _place(self, case: Case) -> Outcome:
        request = case.request
        order = self._order(case)
        order.state = c.ORDER_STATE_PLACED
        order.price_open = request.price
        order.price_stoplimit = request.stoplimit if request.type in rules.STOP_LIMIT_TYPES else 0.0
        order.type_time = request.type_time
        order.time_expiration = rules.expires_at(request.type_time, request.expiration, order.time_setup_msc // 1000)
        self._ledger.place(order)
        self._engine.meet(order, case.quote, case.msc)
        return self._placed(case, order)

    def _set_stops(self, case: Case) -> Outcome:
        position, request = case.position, case.request
        assert position is not None, "judged before"
        position.sl, position.tp = request.sl, request.tp
        self._ledger.touch(position, self._market.server_time(case.msc))
        return Outcome(c.TRADE_RETCODE_DONE)

    def _modify(self, case: Case) -> Outcome:
        order = case.order
        assert order is not None, "judged before"
        (
            order.price_open, order.price_stoplimit, order.sl, order.tp, order.type_time, order.time_expiration
        ) = modified(case, order, self._market.server_time(case.msc) // 1000)  # fmt: skip
        self._ledger.place(order)
        self._engine.meet(order, case.quote, case.msc)
        return self._placed(case, order)

    def _remove(self, case: Case) -> Outcome:
        order = case.order
        assert order is not None, "judged before"
        self._ledger.finish(order, c.ORDER_STATE_CANCELED, self._market.server_time(case.msc))
        return self._placed(case, order)

    def _close_by(self, case: Case) -> Outcome:
        position, other = case.position, self._ledger.positions[case.request.position_by]
        assert position is not None, "judged before"
        volume = min(position.volume, other.volume)
        order = self._order(case)
        order.type = c.ORDER_TYPE_CLOSE_BY
        order.volume_initial = order.volume_current = volume
        order.symbol = position.symbol
        first, _ = self._ledger.close_by(position, other, order, order.time_setup_msc)
        return Outcome(
            c.TRADE_RETCODE_DONE, first.ticket, order.ticket, volume, first.price,
            bid=case.quote.bid, ask=case.quote.ask,
        )  # fmt: skip

    # What they share.

    def _order(self, case: Case, position_id: int = 0) -> Order:
        request, spec = case.request, case.spec
        return Order(
            ticket=self._ledger.ticket(), symbol=spec.name, type=request.type, type_time=c.ORDER_TIME_GTC,
            type_filling=request.type_filling, state=c.ORDER_STATE_STARTED, volume_initial=request.volume,
            volume_current=request.volume, price_open=0.0, price_stoplimit=0.0, sl=request.sl, tp=request.tp,
            time_setup_msc=self._market.server_time(case.msc), magic=request.magic,
            reason=c.ORDER_REASON_EXPERT, comment=request.comment[:_MAX_COMMENT], position_id=position_id,
        )  # fmt: skip

    @staticmethod
    def _placed(case: Case, order: Order) -> Outcome:
        """What terminals answer for a pending, also where an exchange fills it at once: its volume, and no price."""
        return Outcome(
            c.TRADE_RETCODE_DONE, order=order.ticket, volume=order.volume_initial,
            bid=case.quote.bid, ask=case.quote.ask,
        )  # fmt: skip
