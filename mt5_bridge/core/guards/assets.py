"""Which asset class a symbol belongs to, for the position limits by class.

Source: the symbol's calculation mode, currencies and folder in the terminal's tree where its rules are known, else its
name. Brokers decorate names (`EURUSD.m`, `#US500`, `XAUUSDpro`), so names are compared by how they begin.
"""

from functools import lru_cache

from mt5_bridge.core.model import AssetClass, SymbolInfo

_METALS = ("XAU", "XAG", "XPT", "XPD", "GOLD", "SILVER", "PLATINUM", "PALLADIUM")
# fmt: off
_CRYPTO = frozenset(
    {
        "BTC", "XBT", "ETH", "LTC", "XRP", "BCH", "ADA", "DOT", "SOL", "DOGE", "DOG", "BNB", "XLM", "EOS",
        "TRX", "LINK", "LNK", "AVAX", "AVX", "UNI", "ATOM", "MATIC", "SHIB", "XMR", "DASH", "DSH", "ETC",
        "XTZ", "ZEC", "NEO", "IOTA", "FIL", "ALGO", "AAVE", "NEAR", "TON", "SUI", "APT", "ARB", "OP", "PEPE",
    }
)
_CURRENCIES = frozenset(
    {
        "USD", "EUR", "GBP", "JPY", "CHF", "AUD", "NZD", "CAD", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF",
        "TRY", "ZAR", "MXN", "BRL", "CLP", "COP", "SGD", "HKD", "CNH", "CNY", "INR", "KRW", "THB", "IDR",
        "MYR", "PHP", "TWD", "ILS", "RUB", "RON", "BGN", "ISK", "AED", "SAR", "KWD", "QAR", "EGP", "NGN",
        "KES", "VND", "PEN", "ARS",
    }
)
_INDICES = (
    "US30", "US100", "US500", "US2000", "USTEC", "NAS100", "NASDAQ", "NDX", "SPX", "SP500", "SPY500", "DJ30",
    "DJI", "WS30", "WALL", "GER30", "GER40", "DE30", "DE40", "DAX", "UK100", "FTSE", "FRA40", "F40", "CAC",
    "JP225", "JPN225", "NIKKEI", "NI225", "HK50", "HSI", "AUS200", "AU200", "ASX", "EU50", "EUSTX50", "ESTX50",
    "STOXX", "ES35", "ESP35", "SPA35", "IT40", "ITA40", "SWI20", "CH20", "NETH25", "NL25", "CN50", "CHINA50",
    "CHINA", "IND50", "NIFTY", "SG30", "SGP20", "RUS2000", "RUSS2000", "USIDX", "VIX", "DXY", "USDX",
)
# fmt: on
_FOREX_MODES = (0, 5)  # SYMBOL_CALC_MODE_FOREX, FOREX_NO_LEVERAGE
_INDEX_MODE = 3  # SYMBOL_CALC_MODE_CFDINDEX
_FOLDERS = (
    ("crypto", AssetClass.CRYPTO),
    ("metal", AssetClass.METAL),
    ("indic", AssetClass.INDEX),
    ("index", AssetClass.INDEX),
    ("forex", AssetClass.FOREX),
)


def asset_class(symbol: SymbolInfo | str, path: str = "") -> AssetClass:
    """The class of a symbol.

    Args:
        symbol: its rules, or only its name.
        path: its folder in the terminal's tree, where only the name is given.
    """
    if isinstance(symbol, str):
        return _told_by(symbol, path, "", "", -1)
    return _told_by(symbol.name, symbol.path, symbol.currency_base, symbol.currency_profit, symbol.calc_mode)


@lru_cache(maxsize=4096)
def _told_by(name: str, path: str, base: str, profit: str, calc_mode: int) -> AssetClass:
    by_name = _told_by_name(name)
    if by_name in (AssetClass.METAL, AssetClass.CRYPTO):
        return by_name
    if base.upper() in _CRYPTO:
        return AssetClass.CRYPTO
    if calc_mode == _INDEX_MODE:
        return AssetClass.INDEX
    folder = path.replace("/", "\\").lower().rpartition("\\")[0]
    for word, found in _FOLDERS:
        if word in folder:
            return found
    if calc_mode in _FOREX_MODES and base != profit and {base, profit} <= _CURRENCIES:
        return AssetClass.FOREX
    return by_name


def _told_by_name(name: str) -> AssetClass:
    plain = name.upper().lstrip("#._!@$ ")
    if plain.startswith(_METALS):
        return AssetClass.METAL
    if plain[:3] in _CURRENCIES and plain[3:6] in _CURRENCIES:
        return AssetClass.FOREX
    if any(plain.startswith(coin + quote) for coin in _CRYPTO for quote in ("USD", "EUR", "BTC", "JPY", "GBP")):
        return AssetClass.CRYPTO
    if plain.startswith(_INDICES):
        return AssetClass.INDEX
    return AssetClass.OTHER
