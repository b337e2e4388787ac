"""Margin: of what is open, of what waits, and of what an order would add."""

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator.core import margin as formulas
from mt5_bridge.simulator.core.exposure import Exposure, Exposures
from mt5_bridge.simulator.core.ledger import Ledger
from mt5_bridge.simulator.core.margin import Leg, Waiting
from mt5_bridge.simulator.core.records import Order
from mt5_bridge.simulator.core.rules import PENDING_TYPES
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.trading.exchange import Exchange


class Margins(Exchange):
    """An account's books, and the margin they bind."""

    def __init__(self, market: Market, mode: MarginMode, currency: str, leverage: int) -> None:
        super().__init__(market, currency)
        self.mode = mode
        self.hedging = mode is MarginMode.HEDGING
        self.leverage = leverage
        self.ledger = Ledger(mode, self)
        self._exposures = Exposures(self.ledger)
        self._reserving = {name for name, feed in market.feeds.items() if formulas.pendings_reserve(feed.spec)}
        self._conversions: dict[tuple[int, float], float] = {}
        """Of pendings that reserve margin, by ticket and price."""

    def exposures(self) -> dict[str, Exposure]:
        """What is open, by symbol."""
        return self._exposures.current()

    def margin(self, symbol: str, order_type: int, volume: float, price: float) -> float:
        """Margin for an order of `volume` lots at `price`, as if nothing else were open; unrounded."""
        raw = formulas.raw_margin(self.spec(symbol), volume, price, self.leverage, order_type)
        return raw * self.margin_rate(symbol, order_type, price)

    def additional_margin(self, symbol: str, side: int, volume: float, price: float) -> float:
        """How much must be free to open `volume` lots beside what is open; at least 0."""
        spec, held = self.spec(symbol), self.exposures().get(symbol)
        order = Leg(volume, volume * price, volume * self.margin_rate(symbol, side, price))
        legs = held.legs if held is not None else (Leg(), Leg())
        if self.hedging:
            return formulas.hedging_need(spec, legs, side, order, self.leverage, before=self._symbol_margin(symbol, []))
        held_side = 0 if legs[0].lots else 1
        return formulas.netting_need(spec, legs[held_side], held_side, side, order, self.leverage)

    def total_margin(self) -> float:
        """Margin of everything open or waiting."""
        held = self.exposures()
        if not held and not self._reserving:
            return 0.0
        reserves = self._with_reserves()
        if not reserves:
            return sum([one.margin or self._symbol_margin(symbol, []) for symbol, one in held.items()], 0.0)
        symbols = {**held, **dict.fromkeys(reserves)}
        return sum([self._symbol_margin(symbol, self._waiting(symbol)) for symbol in symbols], 0.0)

    def waiting_margin(self) -> float:
        """What pending orders add to the margin of what is open."""
        return sum(
            (
                self._symbol_margin(symbol, self._waiting(symbol)) - self._symbol_margin(symbol, [])
                for symbol in self._with_reserves()
            ),
            0.0,
        )

    def order_margin(self, order: Order) -> float:
        """What one pending order adds to the margin."""
        if order.symbol not in self._reserving or order.type not in PENDING_TYPES:
            return 0.0
        return self._added(order.symbol, self._as_waiting(order), skip=order.ticket)

    def reserve(self, symbol: str, kind: int, volume: float, price: float) -> float:
        """What a pending order would add to the margin."""
        if symbol not in self._reserving:
            return 0.0
        return self._added(symbol, Waiting(kind, volume, price, self.margin_rate(symbol, kind, price)))

    def _added(self, symbol: str, one: Waiting, skip: int = 0) -> float:
        others = self._waiting(symbol, skip)
        return self._symbol_margin(symbol, [*others, one]) - self._symbol_margin(symbol, others)

    def _symbol_margin(self, symbol: str, waiting: list[Waiting]) -> float:
        held = self.exposures().get(symbol)
        if waiting or held is None:
            legs = held.legs if held is not None else (Leg(), Leg())
            return formulas.symbol_margin(self.spec(symbol), legs, waiting, self.leverage, hedging=self.hedging)
        if held.margin is None:
            held.margin = formulas.legs_margin(self.spec(symbol), held.legs, self.leverage)
        return held.margin

    def _with_reserves(self) -> list[str]:
        """In one order in every process: sums of floats depend on it."""
        if not self._reserving:
            return []
        return sorted({order.symbol for order in self.ledger.orders.values()} & self._reserving)

    def _waiting(self, symbol: str, skip: int = 0) -> list[Waiting]:
        if symbol not in self._reserving:
            return []
        return [
            self._as_waiting(order)
            for order in self.ledger.orders.values()
            if order.symbol == symbol and order.ticket != skip and order.type in PENDING_TYPES
        ]

    def _as_waiting(self, order: Order) -> Waiting:
        """The order with the exchange rate of when it was placed, which a later look must not change."""
        price = order.price_stoplimit or order.price_open
        rate = self._conversions.get((order.ticket, price))
        if rate is None:
            msc, self.msc = self.msc, self.market.utc(order.time_setup_msc)
            rate = self._conversions[order.ticket, price] = self.margin_rate(order.symbol, order.type, price)
            self.msc = msc
        return Waiting(order.type, order.volume_current, price, rate)
