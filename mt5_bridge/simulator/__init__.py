"""The paper terminal: a drop-in for the `MetaTrader5` package that needs no terminal, no broker and no Windows.

    import mt5_bridge.simulator as MetaTrader5

gives every constant, function, structure and dtype of the official package, on a market of recorded or seeded ticks.
`configure` sets it up, `install` puts it in the place of `MetaTrader5` and, with a manual clock, gives time to a test.
"""

# ruff: noqa: F401 - what is imported here is the package's public face

from mt5_bridge.simulator.api import (
    BUILTINS,
    MarketControl,
    clear_faults,
    configure,
    inject,
    install,
    uninstall,
)
from mt5_bridge.simulator.constants import *  # noqa: F403 - the package's 223 constants are its public names
from mt5_bridge.simulator.helpers import Buy, Close, Sell, _RawOrder
from mt5_bridge.simulator.structs import (
    AccountInfo,
    BookInfo,
    OrderCheckResult,
    OrderSendResult,
    SymbolInfo,
    TerminalInfo,
    Tick,
    TradeDeal,
    TradeOrder,
    TradePosition,
    TradeRequest,
)

__version__ = "5.0.6231"
__author__ = "MetaQuotes Ltd."

initialize = BUILTINS["initialize"]
login = BUILTINS["login"]
shutdown = BUILTINS["shutdown"]
version = BUILTINS["version"]
last_error = BUILTINS["last_error"]
terminal_info = BUILTINS["terminal_info"]
account_info = BUILTINS["account_info"]
symbols_total = BUILTINS["symbols_total"]
symbols_get = BUILTINS["symbols_get"]
symbol_info = BUILTINS["symbol_info"]
symbol_info_tick = BUILTINS["symbol_info_tick"]
symbol_select = BUILTINS["symbol_select"]
market_book_add = BUILTINS["market_book_add"]
market_book_get = BUILTINS["market_book_get"]
market_book_release = BUILTINS["market_book_release"]
copy_ticks_from = BUILTINS["copy_ticks_from"]
copy_ticks_range = BUILTINS["copy_ticks_range"]
copy_rates_from = BUILTINS["copy_rates_from"]
copy_rates_from_pos = BUILTINS["copy_rates_from_pos"]
copy_rates_range = BUILTINS["copy_rates_range"]
order_calc_margin = BUILTINS["order_calc_margin"]
order_calc_profit = BUILTINS["order_calc_profit"]
order_check = BUILTINS["order_check"]
order_send = BUILTINS["order_send"]
orders_total = BUILTINS["orders_total"]
orders_get = BUILTINS["orders_get"]
positions_total = BUILTINS["positions_total"]
positions_get = BUILTINS["positions_get"]
history_orders_total = BUILTINS["history_orders_total"]
history_orders_get = BUILTINS["history_orders_get"]
history_deals_total = BUILTINS["history_deals_total"]
history_deals_get = BUILTINS["history_deals_get"]
