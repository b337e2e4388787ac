"""Where settings come from, which source wins, and how faults are told."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings import SPECS, Loaded, SecretStr, Settings, examine, find_data_dir, load
from mt5_bridge.settings.loading import from_keyring
from mt5_bridge.settings.names import ALIASES, FEATURES_TO_COME

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def read(folder: Path, env: dict[str, str] | None = None, **cli: Any) -> Loaded:
    return load(cli, {"TERMINAL": "paper", **(env or {})}, folder, keyring=lambda name: None)


def faults(folder: Path, env: dict[str, str] | None = None, **cli: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(folder, env, **cli)
    return str(caught.value).splitlines()


def one_fault(folder: Path, env: dict[str, str] | None = None, **cli: Any) -> str:
    lines = faults(folder, env, **cli)
    assert len(lines) == 1, lines
    return lines[0]


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    settings = read(tmp_path).settings
    assert settings.redpanda_bootstrap_servers == "127.0.0.1:19092"
    assert (settings.mt5_magic, settings.tick_hz, settings.max_volume) == (235, 10.0, 10.0)
    assert not settings.trading_enabled
    assert settings.require_stop_loss
    assert settings.max_drawdown_pct is None
    assert settings.dlq_topic == "trading_signals.dlq"


def test_every_source_beats_the_one_below(tmp_path: Path) -> None:
    base, overlay, dotenv = tmp_path / "mt5_bridge.yaml", tmp_path / "mt5_bridge.live.yaml", tmp_path / ".env"
    base.write_text("MAX_VOLUME: 1\nENVIRONMENT: live\nTICK_HZ: 1\n")
    assert read(tmp_path).settings.max_volume == 1
    overlay.write_text("MAX_VOLUME: 2\n")
    assert read(tmp_path).settings.max_volume == 2
    dotenv.write_text("MAX_VOLUME=3\n")
    assert read(tmp_path).settings.max_volume == 3
    assert read(tmp_path, {"MAX_VOLUME": "4"}).settings.max_volume == 4
    loaded = read(tmp_path, {"MAX_VOLUME": "4"}, MAX_VOLUME=5)
    assert loaded.settings.max_volume == 5
    assert loaded.settings.tick_hz == 1
    assert loaded.sources["MAX_VOLUME"] == "command line"
    assert loaded.sources["TICK_HZ"] == "mt5_bridge.yaml"
    assert loaded.sources["MODE"] == "default"


def test_environment_chooses_the_second_yaml_file_from_any_source(tmp_path: Path) -> None:
    (tmp_path / "mt5_bridge.test.yaml").write_text("max_volume: 7")
    assert read(tmp_path, {"ENVIRONMENT": "test"}).settings.max_volume == 7
    assert read(tmp_path, ENVIRONMENT="test").settings.max_volume == 7
    (tmp_path / ".env").write_text("ENVIRONMENT=test")
    assert read(tmp_path).settings.max_volume == 7
    assert read(tmp_path, {"ENVIRONMENT": "other"}).settings.max_volume == 10


def test_environment_is_no_way_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "mt5_bridge.yaml").write_text("max_volume: 7")
    assert "ENVIRONMENT: 'x/../..'" in one_fault(tmp_path / "in", {"ENVIRONMENT": "x/../.."})


@pytest.mark.parametrize(
    "text",
    [
        "mt5_login: 0123\nsymbols: [EURUSD, USDJPY]\nredpanda_tick_topic: t\nbackend_ws_url: ws://h/\nmax_workers: 3",
        "MT5_LOGIN: 0123\nSYMBOLS: EURUSD,USDJPY\nREDPANDA_TICK_TOPIC: t\nBACKEND_WS_URL: ws://h/\nMAX_WORKERS: 3",
        "mt5_bridge:\n  mt5: {login: 0123}\n  websocket: {url: 'ws://h/'}\n  performance: {max_workers: 3}\n"
        "  market: {symbols: [EURUSD, USDJPY]}\n  redpanda: {tick_topic: t}",
        "mt5: {mt5_login: 0123}\nbackend: {ws_url: 'ws://h/'}\nworkers: {max_workers: 3}\n"
        "symbols: [EURUSD, USDJPY]\nredpanda: {tick-topic: t}",
    ],
)
def test_yaml_may_be_flat_or_nested(tmp_path: Path, text: str) -> None:
    (tmp_path / "mt5_bridge.yaml").write_text(text)
    settings = read(tmp_path).settings
    assert settings.mt5_login == 123
    assert settings.symbols == ("EURUSD", "USDJPY")
    assert settings.redpanda_tick_topic == "t"
    assert settings.backend_ws_url == "ws://h/"
    assert settings.max_workers == 3


def test_a_group_with_a_name_of_its_own_lends_no_leaf_to_others(tmp_path: Path) -> None:
    (tmp_path / "mt5_bridge.yaml").write_text("redpanda: {mode: standard}")
    assert read(tmp_path).settings.mode == "hybrid"


def test_yaml_words_stay_text_and_null_is_not_given(tmp_path: Path) -> None:
    (tmp_path / "mt5_bridge.yaml").write_text(
        "max_daily_trades: off\nmt5_password: 0755\nbridge_id: ~\nmax_volume: null\npaper_ticks: {EURUSD: a.csv}\n"
    )
    (tmp_path / "a.csv").write_text("")
    settings = read(tmp_path).settings
    assert settings.max_daily_trades is None
    assert settings.mt5_password == SecretStr("0755")
    assert settings.max_volume == 10
    assert settings.paper_ticks == (f"EURUSD={tmp_path / 'a.csv'}",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("a: [1", "mt5_bridge.yaml line 1: is not YAML"), ("- 1\n- 2", "mt5_bridge.yaml: holds no names")],
)
def test_broken_yaml_is_told(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "mt5_bridge.yaml").write_text(text)
    assert one_fault(tmp_path).startswith(fault)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_yaml_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "mt5_bridge.yaml").write_text(text)
    assert set(read(tmp_path).sources.values()) == {"default", "environment"}


def test_dotenv_forms(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "\ufeff# a comment\n\nexport BRIDGE_ID = one\nMT5_SERVER='My # Broker'  # real\n"
        'REDPANDA_SASL_USERNAME="C:\\new\\table \\"x\\""\nredpanda_sasl_password=a#b\n'
        "REDPANDA_SECURITY_PROTOCOL=sasl_ssl # yes\nMT5_LOGIN=\nGROUP=1\nDATA_DIR=~/bridge\n",
        encoding="utf-8",
    )
    loaded = read(tmp_path)
    settings = loaded.settings
    assert settings.bridge_id == "one"
    assert settings.mt5_server == "My # Broker"
    assert settings.redpanda_sasl_username == 'C:\\new\\table "x"'
    assert settings.redpanda_sasl_password == SecretStr("a#b")
    assert settings.redpanda_security_protocol == "SASL_SSL"
    assert settings.mt5_login is None
    assert settings.data_dir == Path.home() / "bridge"
    assert loaded.sources["BRIDGE_ID"] == ".env line 3"


def test_a_broken_dotenv_line_is_told_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MT5_LOGIN=5\nhunter2\n")
    assert one_fault(tmp_path) == ".env line 2: is not NAME=value; write it so, or put # before it"


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("MT5_LOGIN=5".encode("utf-16"))
    assert one_fault(tmp_path) == ".env: is not UTF-8 text; save it as UTF-8"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, encoding: str) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / ".env").write_text("")
    monkeypatch.setattr(Path, "read_text", refuse)
    assert one_fault(tmp_path) == ".env: cannot be read (Permission denied); mend its permissions"


def test_empty_is_not_given(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TICK_HZ=5\n")
    loaded = read(tmp_path, {"TICK_HZ": "  ", "MODE": ""})
    assert loaded.settings.tick_hz == 5
    assert loaded.settings.mode == "hybrid"


def test_aliases(tmp_path: Path) -> None:
    settings = read(tmp_path, {"MT5_ACCOUNT": "77", "RISK_PER_TRADE": "0.5"}).settings
    assert (settings.mt5_login, settings.max_risk_percent) == (77, 0.5)


def test_an_alias_and_its_name_must_agree_within_one_source(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MT5_ACCOUNT=1\n")
    assert read(tmp_path, {"MT5_LOGIN": "2"}).settings.mt5_login == 2
    assert read(tmp_path, {"MT5_LOGIN": "2", "MT5_ACCOUNT": "2"}).settings.mt5_login == 2
    line = one_fault(tmp_path, {"MT5_LOGIN": "2", "MT5_ACCOUNT": "3"})
    assert line == "MT5_LOGIN: MT5_LOGIN and MT5_ACCOUNT in environment say different things; keep one of them"


def test_all_faults_at_once_each_on_a_line_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RISK_PER_TRADE=lots\n")
    lines = faults(tmp_path, {"TICK_HZ": "ten", "MT5_MAGIC": "1048576", "MODE": "standard"})
    assert sorted(lines) == [
        "BACKEND_WS_URL: is not set, but standard mode talks to nothing else; set it, or run in hybrid mode",
        "MAX_RISK_PERCENT: 'lots' is not a number; give a number above 0, at most 100 (percent) "
        "(.env line 1, written RISK_PER_TRADE)",
        "MT5_MAGIC: '1048576' is out of range; give a whole number from 1 to 1048575 (environment)",
        "TICK_HZ: 'ten' is not a number; give a number above 0, at most 100 (per second) (environment)",
    ]


def test_a_long_value_is_shown_short(tmp_path: Path) -> None:
    assert len(one_fault(tmp_path, {"MODE": "x" * 500})) < 200


@given(secret=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=3).filter(str.strip))
def test_no_fault_shows_a_secret(secret: str) -> None:
    names = [name for name, spec in SPECS.items() if spec.kind.secret]
    env = dict.fromkeys(names, f"zq{secret}\x01zq") | {"REDPANDA_SECURITY_PROTOCOL": "SASL_SSL", "TICK_HZ": "x"}
    with pytest.raises(SettingsError) as caught:
        load({}, {"TERMINAL": "paper", **env}, Path("/nowhere"))
    assert f"zq{secret}" not in str(caught.value)


def test_an_address_that_cannot_be_used_is_told_without_its_password(tmp_path: Path) -> None:
    for address in (
        "http://me:hunter2@h/",
        "ws://me:hunter2@[h",
        "ws://me:hun/ter2@h:port/",
        "//me:hunter2@",
        "me:hunter2@h",
    ):
        line = one_fault(tmp_path, {"BACKEND_WS_URL": address})
        assert "hun" not in line
        assert line.startswith("BACKEND_WS_URL: ")


def test_what_is_wrong_stands_beside_what_there_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MT5_PASWORD=x\nMT5_PASSWORD=hunter2\nnonsense\n")
    env = {"TERMINAL": "mt5", "TICK_HZ": "often", "MAX_VOLUME": "3", "GATEWAY_TOKEN": "a\x01b"}
    found = examine({}, env, tmp_path, keyring=lambda name: None)
    assert found.settings.max_volume == 3
    assert found.sources["TICK_HZ"] == "environment"
    assert found.wrong == {"TICK_HZ": "often", "GATEWAY_TOKEN": "**********"}
    assert len(found.warnings) == 1
    with pytest.raises(SettingsError) as caught:
        load({}, env, tmp_path, keyring=lambda name: None)
    assert str(caught.value).splitlines() == found.faults
    assert list(caught.value.hints) == found.warnings, "a misspelt name may be the cause"


def test_misspelt_names_are_pointed_out_where_they_are_ours(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MAX_DAILY_LOS_PCT=3\nPOSTGRES_IMAGE=postgres:16\n")
    (tmp_path / "mt5_bridge.yaml").write_text("mt5_bridge: {trading: {max_volum: 3, zzz: 1}}\n")
    warnings = read(tmp_path, {"MT5_LOGN": "1", "EDITOR": "vi", "SHLVL": "1"}).warnings
    assert warnings == [
        "TRADING_MAX_VOLUM: no such setting (mt5_bridge.yaml); did you mean MAX_VOLUME?",
        "MAX_DAILY_LOS_PCT: no such setting (.env line 1); did you mean MAX_DAILY_LOSS_PCT?",
        "MT5_LOGN: no such setting (environment); did you mean MT5_LOGIN?",
    ]


def test_an_unknown_name_on_the_command_line_is_the_callers_fault(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        read(tmp_path, NO_SUCH="1")


def test_secrets_from_the_keyring(tmp_path: Path) -> None:
    kept = {"MT5_PASSWORD": "from the keyring"}
    env = {"TERMINAL": "paper", "MT5_PASSWORD": "keyring"}
    loaded = load({}, env, tmp_path, keyring=kept.get)
    assert loaded.settings.mt5_password == SecretStr("from the keyring")
    with pytest.raises(SettingsError, match=r"GATEWAY_TOKEN: the secret is not in the keyring; run: keyring set"):
        load({}, {**env, "GATEWAY_TOKEN": "Keyring"}, tmp_path, keyring=kept.get)


def fake_keyring(monkeypatch: pytest.MonkeyPatch, *, locked: bool) -> None:
    errors = types.ModuleType("keyring.errors")
    errors.KeyringError = type("KeyringError", (Exception,), {})  # type: ignore[attr-defined]  # a module made up here
    module = types.ModuleType("keyring")

    def get_password(service: str, name: str) -> str:
        if locked:
            raise errors.KeyringError("locked")
        return f"{service}/{name}"

    module.get_password = get_password  # type: ignore[attr-defined]  # a module made up here
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)


def test_the_systems_keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_keyring(monkeypatch, locked=False)
    assert from_keyring("MT5_PASSWORD") == "mt5-bridge/MT5_PASSWORD"
    fake_keyring(monkeypatch, locked=True)
    with pytest.raises(SettingsError, match="MT5_PASSWORD: the secret cannot be fetched: KeyringError; unlock"):
        load({}, {"TERMINAL": "paper", "MT5_PASSWORD": "keyring"}, tmp_path)
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(SettingsError, match="no keyring is installed; install the package keyring"):
        load({}, {"TERMINAL": "paper", "MT5_PASSWORD": "keyring"}, tmp_path)


def test_features_to_come_do_not_pretend(tmp_path: Path) -> None:
    env = {"REDIS_HOST": "127.0.0.1", "MAX_WORKERS": "4"}
    warnings = read(tmp_path, env).warnings
    assert warnings == [
        "REDIS_HOST: is set, but this version does not do it yet",
        "MAX_WORKERS: is set, but this version does not do it yet",
    ]
    assert set(FEATURES_TO_COME) <= set(SPECS)


def test_relative_paths_start_at_the_folder_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "usdjpy-1.csv").write_text("")
    env = {"DATA_DIR": "d", "REDPANDA_SSL_CA_FILE": "ca.pem", "REDPANDA_SECURITY_PROTOCOL": "SSL"}
    settings = read(tmp_path, {**env, "PAPER_TICKS": f"usdjpy-1.csv, X=usdjpy-1.csv,{tmp_path}/usdjpy-1.csv"}).settings
    assert settings.data_dir == tmp_path / "d"
    assert settings.redpanda_ssl_ca_file == tmp_path / "ca.pem"
    file = tmp_path / "usdjpy-1.csv"
    assert settings.paper_ticks == (str(file), f"X={file}", str(file))


def test_symbols_and_pairs_are_merged(tmp_path: Path) -> None:
    env = {"FOREX_PAIRS": "EURUSD,NZDUSD", "CRYPTO_PAIRS": "BTCUSD"}
    assert read(tmp_path, env).settings.symbols == ("EURUSD", "NZDUSD")
    env["SYMBOLS"] = '["US 500", "EURUSD"]'
    assert read(tmp_path, env).settings.symbols == ("US 500", "EURUSD", "NZDUSD")
    env["CRYPTO_ENABLED"] = "yes"
    assert read(tmp_path, env).settings.symbols == ("US 500", "EURUSD", "NZDUSD", "BTCUSD")


def test_the_paper_terminal_is_told_everything_by_name(tmp_path: Path) -> None:
    env = {"PAPER_SPEED": "2.5", "PAPER_LOOP": "no", "MT5_LOGIN": "9", "MT5_PASSWORD": "p", "DATA_DIR": str(tmp_path)}
    told = read(tmp_path, env).settings.paper()
    assert told["PAPER_SPEED"] == "2.5"
    assert told["PAPER_LOOP"] == "false"
    assert told["MT5_LOGIN"] == "9"
    assert told["MT5_PASSWORD"] == "p"
    assert told["DATA_DIR"] == str(tmp_path)
    assert "PAPER_TICKS" not in told
    assert {name for name in SPECS if name.startswith("PAPER_")} >= {name for name in told if name.startswith("PAPER_")}


def test_the_data_folder_is_found_whatever_else_is_wrong(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TICK_HZ=oops\nDATA_DIR=here\n")
    assert find_data_dir(env={}, cwd=tmp_path) == tmp_path / "here"
    assert find_data_dir({"DATA_DIR": "there"}, {}, tmp_path) == tmp_path / "there"
    (tmp_path / ".env").unlink()
    assert find_data_dir(env={}, cwd=tmp_path) == Settings().data_dir
    with pytest.raises(SettingsError, match="DATA_DIR: '~nobody-here/x' names a home folder"):
        find_data_dir({"DATA_DIR": "~nobody-here/x"}, {}, tmp_path)


def test_the_example_names_every_setting_with_its_default(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    named = {}
    for line in lines:
        name, equals, text = line.removeprefix("# ").partition("=")
        if equals and name in SPECS:
            named[name] = text
    assert set(named) == set(SPECS)
    (tmp_path / ".env").write_text("\n".join(f"{name}={text}" for name, text in named.items()))
    if importlib.util.find_spec("MetaTrader5") is None:
        named["TERMINAL"] = "paper"
    settings = load({"TERMINAL": named["TERMINAL"]}, {}, tmp_path).settings
    different = [n for n in SPECS if getattr(settings, n.lower()) != SPECS[n].default and n != "TERMINAL"]
    assert different == []


def test_every_field_is_a_setting_and_nothing_hides_a_name() -> None:
    assert {name.lower() for name in SPECS} == set(Settings.__struct_fields__)
    assert not set(ALIASES) & set(SPECS)


def test_settings_do_not_change_and_do_not_show_secrets() -> None:
    settings = Settings(mt5_password=SecretStr("hunter2"), gateway_token=SecretStr("t0ken"))
    assert "hunter2" not in repr(settings)
    assert "t0ken" not in str(settings)
    with pytest.raises(AttributeError):
        settings.max_volume = 100.0  # type: ignore[misc]  # what is tested
