"""How each function of the official package is called, described, and fails; and the texts of its errors.

All read in the wheel; the contract tests compare each entry.
"""

from typing import Any, NamedTuple

from mt5_bridge.simulator import constants as c

SUCCESS = (c.RES_S_OK, "Success")
TEXTS = {
    c.RES_E_FAIL: "Terminal: Call failed",
    c.RES_E_INVALID_PARAMS: "Terminal: Invalid params",
    c.RES_E_NO_MEMORY: "Terminal: Out of memory",
    c.RES_E_NOT_FOUND: "Terminal: Not found",
    c.RES_E_INVALID_VERSION: (
        "Terminal: Incompatible versions, please install the latest version of Terminal and Python module"
    ),
    c.RES_E_AUTH_FAILED: "Terminal: Authorization failed",
    c.RES_E_UNSUPPORTED: "Terminal: Unsupported function",
    c.RES_E_AUTO_TRADING_DISABLED: "Auto-Trading using Python API disabled in Terminal",
    c.RES_E_INTERNAL_FAIL: "IPC call failed",
    c.RES_E_INTERNAL_FAIL_SEND: "IPC send failed",
    c.RES_E_INTERNAL_FAIL_RECEIVE: "IPC recv failed",
    c.RES_E_INTERNAL_FAIL_INIT: "IPC initialize failed, no terminal",
    c.RES_E_INTERNAL_FAIL_CONNECT: "No IPC connection",
    c.RES_E_INTERNAL_FAIL_TIMEOUT: "IPC timeout",
}
"""What `last_error` says unless it knows more."""


class Manner(NamedTuple):
    """How a function is called and fails.

    Attributes:
        signature: as its docstring shows it.
        words: what it says it does.
        arguments: whether it takes any.
        keywords: whether it takes them by name.
        failure: what it returns when the terminal fails it.
        bad_arguments: what it returns for arguments that it cannot read.
    """

    signature: str
    words: str
    arguments: bool = True
    keywords: bool = False
    failure: Any = None
    bad_arguments: Any = None


MANNERS: dict[str, Manner] = {
    "initialize": Manner(
        'initialize([path],[server="SERVER"],[login=LOGIN],[password="PASSWORD"])',
        "Establish connection to MetaTrader 5 terminal",
        keywords=True,
        failure=False,
        bad_arguments=False,
    ),
    "login": Manner(
        'login(login,[server="SERVER"],[password="PASSWORD"])',
        "Log in to specific account",
        keywords=True,
        failure=False,
        bad_arguments=False,
    ),
    "shutdown": Manner("shutdown()", "Disconnect from MetaTrader 5 terminal", arguments=False),
    "version": Manner("version()", "Get MetaTrader 5 terminal version", arguments=False, failure=(0, 0, "")),
    "terminal_info": Manner("terminal_info()", "Get parameters of MetaTrader 5 terminal", arguments=False),
    "account_info": Manner("account_info()", "Return information on the current account", arguments=False),
    "copy_ticks_from": Manner(
        "copy_ticks_from(symbol, date_from, count, flags)", "Get ticks starting from specific date"
    ),
    "copy_ticks_range": Manner(
        "copy_ticks_range(symbol, date_from, date_to, flags)", "Get ticks from specified period"
    ),
    "copy_rates_from": Manner(
        "copy_rates_from(symbol, timeframe, date_from, count)", "Get bars starting from specific date"
    ),
    "copy_rates_from_pos": Manner(
        "copy_rates_from_pos(symbol, timeframe, start_pos, count)", "Get bars starting from specified position"
    ),
    "copy_rates_range": Manner(
        "copy_rates_range(symbol, timeframe, date_from, date_to)", "Get bars from specified period"
    ),
    "positions_total": Manner("positions_total()", "Return the number of open positions", arguments=False),
    "positions_get": Manner(
        'positions_get([symbol="SYMBOL"],[ticket=TICKET],[group="GROUP"])',
        "Return all open positions, can be filtered by symbol, group or ticket",
        keywords=True,
    ),
    "orders_total": Manner("orders_total()", "Return the number of orders", arguments=False),
    "orders_get": Manner(
        'orders_get([symbol="SYMBOL"],[ticket=TICKET],[group="GROUP"])',
        "Return all orders, can be filtered by symbol, group or ticket",
        keywords=True,
    ),
    "history_orders_total": Manner(
        "history_orders_total(date_from, date_to)", "Return the number of orders in selected range from history"
    ),
    "history_orders_get": Manner(
        'history_orders_get([date_from, date_to, [group="GROUP"]],[position=POSITION],[ticket=TICKET])',
        "Return orders in selected range from history or filtered by position id, ticket",
        keywords=True,
    ),
    "history_deals_total": Manner(
        "history_deals_total(date_from, date_to)", "Return the number of deals in selected range from history"
    ),
    "history_deals_get": Manner(
        'history_deals_get([date_from, date_to, [group="GROUP"]],[position=POSITION],[ticket=TICKET])',
        "Return deals in selected range from history or filtered by position id, ticket",
        keywords=True,
    ),
    "order_check": Manner(
        "order_check(request)", "Check if there are enough funds to execute required trading operation", keywords=True
    ),
    "order_send": Manner("order_send(request)", "Send trading requests to server", keywords=True),
    "order_calc_margin": Manner(
        "order_calc_margin(action, symbol, volume, price,)", "Calculate margin required for specified order"
    ),
    "order_calc_profit": Manner(
        "order_calc_profit(action, symbol, volume, price_open, price_close)",
        "Calculate profit for the current account in the current market conditions based on parameters passed",
    ),
    "symbol_info": Manner("symbol_info(symbol)", "Return full information for specified symbol"),
    "symbol_info_tick": Manner("symbol_info_tick(symbol)", "Return current prices of specified symbol"),
    "symbol_select": Manner(
        "symbol_select(symbol,[enable])",
        "Select symbol in Market Watch window or remove symbol from the window",
        failure=False,
        bad_arguments=False,
    ),
    "symbols_total": Manner("symbols_total()", "Return the number of all available symbols", arguments=False),
    "symbols_get": Manner(
        'symbols_get([group="GROUP"])',
        "Return all available symbols or filtred by group",
        keywords=True,
        bad_arguments=False,
    ),
    "market_book_add": Manner("market_book_add(symbol)", "Opens Depth of Market for a selected symbol", failure=False),
    "market_book_release": Manner(
        "market_book_release(symbol)", "Closes Depth of Market for a selected symbol", failure=False
    ),
    "market_book_get": Manner("market_book_get(symbol)", "Returns Depth of Market structures of a specified symbol"),
}
LAST_ERROR = Manner("last_error()", "Return last error code and description", arguments=False)
VERSION_FIRST = frozenset({"symbols_total", "symbols_get"})
"""Without a terminal these complain of its version, not of the connection."""
SILENT = frozenset({"market_book_add", "market_book_release"})
"""These fail without telling `last_error`."""
