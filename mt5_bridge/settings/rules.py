"""What single values cannot show: settings that contradict each other, and ones a person should think about again."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mt5_bridge.settings import gateway_rules
from mt5_bridge.settings.gateway_rules import Contradiction
from mt5_bridge.settings.model import Settings
from mt5_bridge.settings.secret import SecretStr, is_guessable

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SHORT_KEY = 16
_SHORT_SILENCE_S = 5


def settle(settings: Settings, given: frozenset[str], folder: Path) -> Settings:
    """Joins what belongs together: all symbols in SYMBOLS, tick files with full paths.

    Args:
        settings: every value as given or by default.
        given: attributes that some source set.
        folder: where relative paths start.
    """
    pairs = settings.forex_pairs + (settings.crypto_pairs if settings.crypto_enabled else ())
    own = settings.symbols if "symbols" in given or not pairs else ()
    ticks = []
    for piece in settings.paper_ticks:
        symbol, equals, rest = piece.rpartition("=")
        ticks.append(f"{symbol}{equals}{folder / Path(rest.strip()).expanduser()}")
    return msgspec.structs.replace(settings, symbols=tuple(dict.fromkeys(own + pairs)), paper_ticks=tuple(ticks))


def contradictions(settings: Settings) -> list[Contradiction]:
    """All that cannot be meant, given that each value is right by itself."""
    return [
        *_of_mode(settings),
        *_of_terminal(settings),
        *_of_redpanda(settings),
        *_of_backend(settings),
        *_of_signatures(settings),
        *_of_files(settings),
        *gateway_rules.contradictions(settings),
    ]


def _of_mode(settings: Settings) -> Iterator[Contradiction]:
    if settings.mode == "standard" and not settings.backend_ws_url:
        yield Contradiction(
            ("MODE", "BACKEND_WS_URL"),
            "BACKEND_WS_URL: is not set, but standard mode talks to nothing else; set it, or run in hybrid mode",
        )
    if settings.backend_dead_after is not None and not settings.backend_ws_url:
        yield Contradiction(
            ("BACKEND_DEAD_AFTER", "BACKEND_WS_URL"),
            "BACKEND_DEAD_AFTER: is set without a backend to watch; set BACKEND_WS_URL, or take it out",
        )


def _of_terminal(settings: Settings) -> Iterator[Contradiction]:
    if settings.terminal != "mt5":
        return
    if importlib.util.find_spec("MetaTrader5") is None:
        yield Contradiction(
            ("TERMINAL",),
            "TERMINAL: mt5 needs Windows and the package MetaTrader5, which is not installed here; "
            "install it, or set TERMINAL=paper",
        )
    if settings.mt5_login is None and (settings.mt5_password or settings.mt5_server):
        name = "MT5_PASSWORD" if settings.mt5_password else "MT5_SERVER"
        yield Contradiction(("MT5_LOGIN", name), f"MT5_LOGIN: is not set, but {name} is; set the account's number")
    if settings.signal_require_account and settings.mt5_login is None:
        yield Contradiction(
            ("MT5_LOGIN", "SIGNAL_REQUIRE_ACCOUNT"),
            "SIGNAL_REQUIRE_ACCOUNT: needs to know the account; set MT5_LOGIN",
        )


def _of_redpanda(settings: Settings) -> Iterator[Contradiction]:
    protocol = settings.redpanda_security_protocol
    credentials = settings.redpanda_sasl_username, settings.redpanda_sasl_password
    sasl = ("REDPANDA_SECURITY_PROTOCOL", "REDPANDA_SASL_USERNAME", "REDPANDA_SASL_PASSWORD")
    if protocol.startswith("SASL") and not all(credentials):
        missing = sasl[1] if not credentials[0] else sasl[2]
        yield Contradiction(sasl, f"{missing}: is not set, but REDPANDA_SECURITY_PROTOCOL={protocol} needs it; set it")
    if not protocol.startswith("SASL") and any(credentials):
        remedy = "set it to SASL_SSL or SASL_PLAINTEXT, or take the REDPANDA_SASL_… settings out"
        yield Contradiction(
            sasl,
            f"REDPANDA_SECURITY_PROTOCOL: {protocol} sends no credentials, but some are set; {remedy}",
        )
    yield from _of_tls(settings, protocol)
    yield from _of_topics(settings)


def _of_tls(settings: Settings, protocol: str) -> Iterator[Contradiction]:
    for kind in ("CA", "CERT"):
        name = f"REDPANDA_SSL_{kind}_FILE"
        if getattr(settings, name.lower()) and not protocol.endswith("SSL"):
            yield Contradiction(
                ("REDPANDA_SECURITY_PROTOCOL", name),
                f"REDPANDA_SECURITY_PROTOCOL: {protocol} does not encrypt, but {name} is set; "
                "set it to SSL or SASL_SSL, or take the file out",
            )
    if settings.redpanda_ssl_cert_file is not None:
        return
    for name in ("REDPANDA_SSL_KEY_FILE", "REDPANDA_SSL_KEY_PASSWORD"):
        if getattr(settings, name.lower()):
            yield Contradiction(
                ("REDPANDA_SSL_CERT_FILE", name),
                f"REDPANDA_SSL_CERT_FILE: is not set, but {name} is; set it, or take the other out",
            )


def _of_backend(settings: Settings) -> Iterator[Contradiction]:
    files = {
        "BACKEND_SSL_CA_FILE": settings.backend_ssl_ca_file,
        "BACKEND_SSL_CERT_FILE": settings.backend_ssl_cert_file,
        "BACKEND_SSL_KEY_FILE": settings.backend_ssl_key_file,
    }
    given = [name for name, path in files.items() if path]
    if given and urlsplit(settings.backend_ws_url or "").scheme.lower() != "wss":
        yield Contradiction(
            (given[0], "BACKEND_WS_URL"),
            f"{given[0]}: is set, but BACKEND_WS_URL does not encrypt; begin it with wss://, or take the file out",
        )
    if (settings.backend_ssl_key_file or settings.backend_ssl_key_password) and not settings.backend_ssl_cert_file:
        name = "BACKEND_SSL_KEY_FILE" if settings.backend_ssl_key_file else "BACKEND_SSL_KEY_PASSWORD"
        yield Contradiction(
            ("BACKEND_SSL_CERT_FILE", name),
            f"BACKEND_SSL_CERT_FILE: is not set, but {name} is; give the certificate that belongs to the key",
        )
    for name, path in files.items():
        if path and not path.is_file():
            yield _no_file(name, path, "a PEM file")


def _of_signatures(settings: Settings) -> Iterator[Contradiction]:
    key, previous = settings.signal_hmac_key, settings.signal_previous_hmac_key
    names = ("SIGNAL_PREVIOUS_HMAC_KEY", "SIGNAL_HMAC_KEY")
    if previous is not None and key is None:
        yield Contradiction(
            names,
            "SIGNAL_PREVIOUS_HMAC_KEY: is set, but SIGNAL_HMAC_KEY is not; set that to the new key, "
            "or, if there is to be one key, to this one",
        )
    elif previous is not None and previous == key:
        yield Contradiction(
            names,
            "SIGNAL_PREVIOUS_HMAC_KEY: is the same as SIGNAL_HMAC_KEY; give the key before it, or take it out",
        )


def _of_topics(settings: Settings) -> Iterator[Contradiction]:
    topics = {"DLQ": settings.dlq_topic}
    for kind in ("SIGNAL", "TICK", "BAR", "EVENT"):
        name = f"REDPANDA_{kind}_TOPIC"
        topic = getattr(settings, name.lower())
        if topic in topics.values():
            yield Contradiction((name,), f"{name}: {topic!r} is used by another topic setting; give it its own name")
        topics[kind] = topic


def _of_files(settings: Settings) -> Iterator[Contradiction]:
    if settings.redpanda_ssl_ca_file and not settings.redpanda_ssl_ca_file.is_file():
        yield _no_file("REDPANDA_SSL_CA_FILE", settings.redpanda_ssl_ca_file, "the broker's CA certificate (PEM)")
    if settings.redpanda_ssl_cert_file and not settings.redpanda_ssl_cert_file.is_file():
        yield _no_file("REDPANDA_SSL_CERT_FILE", settings.redpanda_ssl_cert_file, "the client certificate (PEM)")
    if settings.redpanda_ssl_key_file and not settings.redpanda_ssl_key_file.is_file():
        yield _no_file("REDPANDA_SSL_KEY_FILE", settings.redpanda_ssl_key_file, "the client certificate's key (PEM)")
    if settings.terminal == "mt5" and settings.mt5_path and not settings.mt5_path.is_file():
        yield _no_file("MT5_PATH", settings.mt5_path, "terminal64.exe")
    if settings.terminal == "paper":
        for piece in settings.paper_ticks:
            path = Path(piece.rpartition("=")[2])
            if not path.is_file():
                yield _no_file("PAPER_TICKS", path, "a tick file, or SYMBOL=path")
        if settings.paper_faults and not settings.paper_faults.is_file():
            yield _no_file("PAPER_FAULTS", settings.paper_faults, "a fault script")
        if settings.paper_symbols and not settings.paper_symbols.is_file():
            yield _no_file("PAPER_SYMBOLS", settings.paper_symbols, "a TOML file with [symbols.NAME] tables")


def _no_file(name: str, path: Path, what: str) -> Contradiction:
    return Contradiction((name,), f"{name}: {str(path)!r} is no file; give the path of {what}")


def doubts(settings: Settings) -> list[str]:
    """What is allowed but deserves a second look, one line each."""
    return [
        *_doubts_of_secrets(settings),
        *_doubts_of_redpanda(settings),
        *_doubts_of_backend(settings),
        *_doubts_of_trading(settings),
        *gateway_rules.doubts(settings),
    ]


def _doubts_of_redpanda(settings: Settings) -> Iterator[str]:
    if settings.redpanda_security_protocol != "SASL_PLAINTEXT" or settings.redpanda_sasl_mechanism != "PLAIN":
        return
    hosts = (server.strip().rpartition(":")[0].strip("[]") for server in settings.redpanda_bootstrap_servers.split(","))
    if not _LOOPBACK.issuperset(hosts):
        yield (
            "REDPANDA_SASL_MECHANISM: PLAIN over SASL_PLAINTEXT sends the password unencrypted to another machine; "
            "use SASL_SSL, or a SCRAM mechanism"
        )


def _doubts_of_secrets(settings: Settings) -> Iterator[str]:
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, SecretStr) and is_guessable(value.get_secret_value()):
            yield f"{name.upper()}: is so short or common a word that it is no secret, and the log cannot hide it"


def _doubts_of_backend(settings: Settings) -> Iterator[str]:
    if not settings.backend_ws_url:
        return
    where = urlsplit(settings.backend_ws_url)
    if settings.backend_auth_token is None:
        yield "BACKEND_AUTH_TOKEN: is not set, the backend cannot know who connects"
    elif where.scheme.lower() == "ws" and where.hostname not in _LOOPBACK:
        yield "BACKEND_WS_URL: the token travels unencrypted to another machine; use wss://"


def _doubts_of_trading(settings: Settings) -> Iterator[str]:
    if settings.crypto_pairs and not settings.crypto_enabled:
        yield "CRYPTO_PAIRS: is set, but CRYPTO_ENABLED is not true, so they are left out"
    if settings.trading_enabled and not settings.require_stop_loss:
        yield "REQUIRE_STOP_LOSS: is false, a position may lose without limit"
    if settings.trading_enabled and settings.simulation_mode:
        yield "SIMULATION_MODE: is true, no order will be sent"
    if settings.emergency_stop:
        yield "EMERGENCY_STOP: is true, the bridge starts halted"
    yield from _doubts_of_deadman(settings)
    for name in ("SIGNAL_HMAC_KEY", "SIGNAL_PREVIOUS_HMAC_KEY"):
        key = getattr(settings, name.lower())
        if key and len(key.get_secret_value()) < _SHORT_KEY:
            yield f"{name}: is shorter than {_SHORT_KEY} characters and can be guessed"
    if settings.signal_previous_hmac_key:
        yield "SIGNAL_PREVIOUS_HMAC_KEY: is still valid; take it out when no sender uses it any more"


def _doubts_of_deadman(settings: Settings) -> Iterator[str]:
    if settings.deadman_action == "none":
        return
    if settings.simulation_mode:
        yield "DEADMAN_ACTION: does nothing while SIMULATION_MODE is true"
    if settings.deadman_after is not None and settings.deadman_after < _SHORT_SILENCE_S:
        yield f"DEADMAN_AFTER: is below {_SHORT_SILENCE_S} s, a bridge on a busy PC may be taken for dead"
