"""The broker's own rules, from a file and from a test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import mt5_bridge.simulator as mt5
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import MarketControl, broker
from mt5_bridge.simulator.broker import AccountRules, Broker
from mt5_bridge.simulator.config import parse
from mt5_bridge.simulator.market.catalogue import FILLING_FOK, FILLING_IOC, MarginRates, SymbolSpec, catalogue

Start = Callable[..., MarketControl]


def applied(suffix: str = "", **symbols: dict[str, Any]) -> dict[str, SymbolSpec]:
    specs = catalogue(suffix).values()
    return broker.apply(specs, Broker(symbols={name.replace("_", "."): told for name, told in symbols.items()}), suffix)


def test_a_file_of_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        """
        [account]
        limit_orders = 200
        stop_out_mode = "money"

        [symbols."*"]
        commission = 3.5

        [symbols.EURUSD]
        execution = "instant"
        filling_bits = ["fok", "ioc"]
        stops_level = 20
        swap_days = [0, 1, 1, 1, 1, 3, 0]
        margin_rates = { buy_limit = 0.5 }
        """
    )
    config = parse({"PAPER_SYMBOLS": str(path)})
    assert config.broker.account == AccountRules(limit_orders=200, stop_out_mode="money")
    specs = broker.apply(catalogue().values(), config.broker)
    assert {spec.commission for spec in specs.values()} == {3.5}
    eurusd = specs["EURUSD"]
    assert eurusd.execution == mt5.SYMBOL_TRADE_EXECUTION_INSTANT
    assert (eurusd.filling_bits, eurusd.stops_level) == (FILLING_FOK | FILLING_IOC, 20)
    assert eurusd.margin_rates == MarginRates(buy_limit=0.5)
    assert eurusd.swap_days == (0.0, 1.0, 1.0, 1.0, 1.0, 3.0, 0.0)
    assert msgspec.structs.replace(specs["GBPUSD"], commission=0.0) == catalogue()["GBPUSD"]


def test_without_rules_nothing_differs() -> None:
    assert applied() == catalogue()
    assert parse({}).broker == Broker()


def test_symbols_are_named_with_or_without_the_suffix() -> None:
    assert applied(".m", EURUSD={"stops_level": 7})["EURUSD.m"].stops_level == 7
    assert applied(".m", EURUSD_m={"stops_level": 7})["EURUSD.m"].stops_level == 7


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"EURUSDD": {}}, ("EURUSDD", "is EURUSD meant?")),
        ({"EURUSD": {"stops_levl": 1}}, ("stops_levl", "is stops_level meant?")),
        ({"EURUSD": {"digits": 3}}, ("digits", "no such rule")),
        ({"EURUSD": {"execution": "slow"}}, ("'slow' is unknown", "request, instant, market, exchange")),
        ({"EURUSD": {"execution": 9}}, ("9 is unknown",)),
        ({"EURUSD": {"execution": True}}, ("True is unknown",)),
        ({"EURUSD": {"filling_bits": ["all"]}}, ("['all'] is unknown", "fok, ioc, boc")),
        ({"EURUSD": {"filling_bits": 99}}, ("filling_bits: 99 is unknown", "fok, ioc, boc")),
        ({"EURUSD": {"order_mode": 128}}, ("order_mode: 128 is unknown", "market, limit")),
        ({"EURUSD": {"expiration_bits": -1}}, ("expiration_bits: -1 is unknown", "gtc, day")),
        ({"EURUSD": {"order_mode": "all"}}, ("Expected `int`, got `str`", "order_mode")),
        ({"EURUSD": {"spread": 40}}, ("spread", "no such rule")),
        ({"EURUSD": {"stops_level": "near"}}, ("Expected `int`, got `str`", "stops_level")),
        ({"EURUSD": {"stops_level": -1}}, ("stops_level: -1 is below 0",)),
        ({"EURUSD": {"volume_step": 0.0}}, ("volume_step: 0.0 is not above 0",)),
        ({"EURUSD": {"commission": float("nan")}}, ("commission: nan is no number",)),
        ({"EURUSD": {"volume_min": 500.0}}, ("volume_min: 500.0 is above volume_max 100.0",)),
        ({"EURUSD": {"tick_size": 1.5e-5}}, ("tick_size: 1.5e-05 is no whole number of points", "multiple of 1e-05")),
        ({"EURUSD": {"tick_size": 5e-6}}, ("tick_size: 5e-06 is no whole number of points",)),
        ({"EURUSD": {"tick_size": float("nan")}}, ("tick_size: nan is no number",)),
        ({"EURUSD": {"tick_size": 5e-5, "depth_volume": 1.0}}, ("depth_step: 1 points are no whole ticks", "of 5")),
        ({"EURUSD": {"requotes": 1.5}}, ("requotes: 1.5 is above 1",)),
        ({"EURUSD": {"margin_rates": {"buys": 1.0}}}, ("buys",)),
        ({"*": {"stops_level": -1}}, ("[symbols.*] stops_level: -1 is below 0",)),
    ],
)
def test_wrong_rules_are_told_with_place_fault_and_remedy(told: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        broker.apply(catalogue().values(), Broker(symbols=told))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("PAPER_SYMBOLS: [symbols.")
    for word in words:
        assert word in lines[0]


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        applied(EURUSD={"stops_level": -1, "digits": 2}, NOPE={})
    assert len(str(caught.value).splitlines()) == 3


def test_names_of_constants_and_their_numbers() -> None:
    every = applied(EURUSD={"filling_bits": 7, "order_mode": 127, "expiration_bits": []})["EURUSD"]
    assert (every.filling_bits, every.order_mode, every.expiration_bits) == (7, 127, 0)
    changed = applied(EURUSD={"calc_mode": "exch_futures", "trade_mode": 3, "swap_rollover3days": "friday"})["EURUSD"]
    assert (changed.calc_mode, changed.trade_mode) == (33, mt5.SYMBOL_TRADE_MODE_CLOSEONLY)
    assert changed.swap_rollover3days == mt5.DAY_OF_WEEK_FRIDAY


@pytest.mark.parametrize(
    "text",
    ["[account]\nlimit_order = 1\n", "[acount]\n", "[account]\nlimit_orders = 'many'\n", "symbols = 1\n", "[", None],
)
def test_a_file_that_is_no_file_of_rules(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "rules.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match="PAPER_SYMBOLS"):
        parse({"PAPER_SYMBOLS": str(path)})


def test_a_test_gives_rules_as_plain_values(start: Start) -> None:
    start(symbols={"EURUSD": {"stops_level": 12}}, account={"limit_orders": 3})
    assert mt5.symbol_info("EURUSD").trade_stops_level == 12
    assert mt5.account_info().limit_orders == 3
    with pytest.raises(SettingsError):
        mt5.install(account={"limits": 3})


def test_a_symbol_nobody_has_stops_the_terminal_with_its_name() -> None:
    mt5.install(symbols={"EURUSDD": {}})
    assert mt5.initialize() is False
    code, text = mt5.last_error()
    assert code == mt5.RES_E_INTERNAL_FAIL_INIT
    assert "EURUSDD" in text
    mt5.uninstall()


def test_symbol_info_shows_the_rules(start: Start) -> None:
    rules = {
        "margin_initial": 5.0, "margin_maintenance": 4.0, "margin_hedged": 3.0, "margin_hedged_use_leg": True,
        "tick_size": 0.0005, "face_value": 1000.0, "accrued_interest": 2.0, "liquidity_rate": 0.5,
        "settlement_price": 1.1, "order_gtc_mode": "daily", "swap_rollover3days": "friday",
    }  # fmt: skip
    start(symbols={"EURUSD": rules})
    info = mt5.symbol_info("EURUSD")
    assert (info.margin_initial, info.margin_maintenance, info.margin_hedged) == (5.0, 4.0, 3.0)
    assert (info.margin_hedged_use_leg, info.trade_tick_size, info.trade_tick_value) == (True, 0.0005, 50.0)
    assert (info.trade_face_value, info.trade_accrued_interest, info.trade_liquidity_rate) == (1000.0, 2.0, 0.5)
    assert (info.session_price_settlement, info.order_gtc_mode, info.swap_rollover3days) == (1.1, 1, 5)
