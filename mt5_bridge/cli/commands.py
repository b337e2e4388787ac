"""The commands of a person: settings, health, the local stop. Each asks, prints, and gives an exit code."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from mt5_bridge import __version__
from mt5_bridge.cli import local, offline, show, talk, wizard
from mt5_bridge.cli.daemon import CONFIGURATION, FAILED, OK, complain, misconfigured, parse_overrides
from mt5_bridge.core.errors import BridgeError, InstanceError, JournalError, SettingsError
from mt5_bridge.core.times import iso
from mt5_bridge.settings import Loaded, Settings, examine, find_data_dir, load

INSTANCE = 4

app = typer.Typer(
    name="mt5-bridge",
    help="Joins a MetaTrader 5 terminal to a Kafka-protocol broker and a WebSocket backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config = typer.Typer(help="Look at the settings.", no_args_is_help=True)
app.add_typer(config, name="config")

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting, stronger than any other source.")
]
Folder = Annotated[Path | None, typer.Option("--data-dir", help="The bridge's folder; default: DATA_DIR.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is logged and told to everybody.")]
By = Annotated[str | None, typer.Option("--by", help="Who; default: your user name.")]


def main(argv: list[str]) -> int:
    """Runs one of the commands below; see `mt5_bridge.cli.main` for exit codes."""
    try:
        app(args=argv, prog_name="mt5-bridge")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else OK
    except SettingsError as error:
        return misconfigured(error)
    except InstanceError as error:
        return complain(str(error), INSTANCE)
    except BridgeError as error:
        return complain(str(error), FAILED)
    return OK


def _loaded(overrides: list[str] | None) -> Loaded:
    return load(parse_overrides(overrides or []))


def _placed(folder: Path | None) -> Settings:
    """Only where the bridge keeps its things: a local stop must not wait for a typing error elsewhere."""
    return Settings(data_dir=folder.absolute() if folder else find_data_dir())


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Say the version and end.")] = False) -> None:
    if version:
        talk.say(f"mt5-bridge {__version__}")
        raise typer.Exit(OK)


_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _passed_on(name: str, words: str) -> None:
    """Lists a command that `mt5_bridge.cli.main` starts by itself, without what is imported here."""

    def start(context: typer.Context) -> None:
        from mt5_bridge import cli

        raise typer.Exit(cli.main([name, *context.args]))

    app.command(name, help=words, context_settings=_PASSED_ON)(start)


_passed_on("run", "Run the bridge until Ctrl+C.")
_passed_on("demo", "Paper terminal, embedded broker, reference backend and bridge in one: watch it work.")


@app.command()
def init(
    mode: Annotated[str | None, typer.Option("--mode", help="hybrid or standard.")] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Ask only for what cannot be done without.")] = False,
) -> None:
    """Ask for the settings and write them to .env in this folder."""
    try:
        written = wizard.complete(Path.cwd(), talk.ask, mode=mode, everything=not missing)
    except EOFError:
        raise SettingsError("init: nobody answers here; write the settings to .env, see .env.example") from None
    if written:
        talk.say(f"Written to {Path.cwd() / '.env'}: {', '.join(written)}")


@config.command("check")
def config_check(overrides: Overrides = None) -> None:
    """Say whether the settings are right; exit code 2 and one line a fault when not."""
    loaded = _loaded(overrides)
    talk.warn(loaded)
    settings = loaded.settings
    if settings.mode == "hybrid":
        from mt5_bridge.app import rooms
        from mt5_bridge.redpanda.security import client_options

        client_options(rooms.redpanda_config(settings))  # whether keys and certificates can be read and fit
    talk.say(f"The settings are right: {settings.mode} mode, {settings.terminal} terminal, data in {settings.data_dir}")


@config.command("show")
def config_show(overrides: Overrides = None) -> None:
    """Show every setting, where it comes from, and no secret; exit code 2 and what is wrong when something is."""
    loaded = examine(parse_overrides(overrides or []))
    talk.warn(loaded)
    talk.table(("setting", "value", "from"), list(show.rows(loaded)))
    if loaded.faults:
        raise typer.Exit(complain("\n".join(loaded.faults), CONFIGURATION))


@app.command()
def doctor(overrides: Overrides = None) -> None:
    """Look at everything the bridge needs, and say what to do."""
    from mt5_bridge.cli import doctor as physician
    from mt5_bridge.redpanda import quiet_library

    loaded = _loaded(overrides)
    talk.warn(loaded)
    with talk.without_log(), quiet_library():
        findings = asyncio.run(physician.examine(loaded.settings))
    marks = {True: "ok", False: talk.FAIL, None: "-"}
    talk.table(
        ("check", "", "found", "remedy"),
        [(f.name, marks[f.ok], f.detail, "" if f.ok is not False else f.remedy) for f in findings],
    )
    raise typer.Exit(FAILED if any(finding.ok is False for finding in findings) else OK)


@app.command()
def status(folder: Folder = None) -> None:
    """Ask the running bridge how it is; without one, say what is latched. Exit code 1 when none runs."""
    settings = _placed(folder)
    try:
        answer = local.ask(settings.control_path, "status")
    except local.NotRunning as error:
        talk.say(f"Not running: {error}")
        latched = asyncio.run(offline.read(settings))
        talk.say("Never ran on this folder." if latched is None else talk.words(latched))
        raise typer.Exit(FAILED) from None
    talk.answered(answer)


@app.command()
def stop(
    reason: Reason = "stopped by hand",
    by: By = None,
    folder: Folder = None,
    close_positions: Annotated[bool | None, typer.Option(help="Default: EMERGENCY_CLOSE_POSITIONS.")] = None,
    cancel_orders: Annotated[bool | None, typer.Option(help="Default: EMERGENCY_CANCEL_ORDERS.")] = None,
    scope: Annotated[str | None, typer.Option(help="all or mine; default: EMERGENCY_SCOPE.")] = None,
) -> None:
    """Emergency stop. It stays until `resume`, over restarts too; it works without a running bridge."""
    settings = _placed(folder)
    who = by or talk.user_name()
    asked = {"reason": reason, "by": who, "close_positions": close_positions, "cancel_orders": cancel_orders}
    params = {name: value for name, value in {**asked, "scope": scope}.items() if value is not None}
    if scope not in (None, "all", "mine"):
        raise SettingsError(f"--scope: {scope!r} is unknown; give all or mine")
    try:
        talk.answered(local.ask(settings.control_path, "stop", params))
    except local.NotRunning as error:
        talk.say(f"Not running: {error}")
        talk.say(talk.words(_latch(settings, reason, who)))


def _latch(settings: Settings, reason: str, who: str) -> offline.Latched:
    """Latches on disk; where a daemon runs but does not answer, by the file that it looks for."""
    try:
        return asyncio.run(offline.stop(settings, reason=reason, by=who))
    except InstanceError as error:
        settings.stop_file.write_text(f"{reason}\nby {who}\n", encoding="utf-8")
        raise JournalError(
            f"{error}, and it does not answer. The file {settings.stop_file} tells it to stop as soon as it can; "
            "nothing is certain until it has renamed that file, so look at the terminal yourself"
        ) from error


@app.command()
def resume(
    reason: Annotated[str, typer.Option("--reason", prompt="Why is it safe to trade again?", help="Why.")],
    by: By = None,
    folder: Folder = None,
    force: Annotated[bool, typer.Option("--force", help="In spite of survivors and unknown outcomes.")] = False,
) -> None:
    """Let trading go on after a stop."""
    settings = _placed(folder)
    who = by or talk.user_name()
    try:
        talk.answered(local.ask(settings.control_path, "resume", {"reason": reason, "by": who, "force": force}))
    except local.NotRunning as error:
        talk.say(f"Not running: {error}")
        latched = asyncio.run(offline.resume(settings, reason=reason, by=who, force=force))
        talk.say(talk.words(latched))
        raise typer.Exit(FAILED if latched.problem else OK) from None


_passed_on("backend", "The reference backend: a WebSocket server for the bridge, and an operator's tool.")
_passed_on("dashboard", "A page to watch the bridge and to stop it from, in the browser.")
_passed_on("broker", "The embedded broker, for trying things out without Redpanda.")


@app.command()
def journal(
    signal_id: Annotated[str, typer.Argument(metavar="SIGNAL_ID", help="The signal's id, or its request's.")],
    folder: Folder = None,
) -> None:
    """Tell what happened to a signal."""
    from mt5_bridge.cli.story import tell

    found = asyncio.run(offline.story(_placed(folder), signal_id))
    if found is None:
        talk.say(f"No signal {signal_id} in the journal")
        raise typer.Exit(FAILED)
    for line in tell(found):
        talk.say(line)


@app.command()
def audit(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the last ones.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    folder: Folder = None,
) -> None:
    """Tell who did what: stops, resumes, and all that was done by the gateway. Oldest first, times in UTC."""
    rows = asyncio.run(offline.audit(_placed(folder), limit))
    if as_json:
        for row in rows:
            talk.say(json.dumps({"at": iso(row.at_msc), "who": row.who, "what": row.what, "detail": row.detail}))
    elif rows:
        talk.table(("at", "who", "what", "detail"), [(iso(r.at_msc), r.who, r.what, r.detail) for r in rows])
    else:
        talk.say("Nobody did anything yet")


@app.command()
def token(
    subject: Annotated[str, typer.Argument(metavar="WHO", help="Whom it is for; the audit names them so.")],
    scope: Annotated[list[str], typer.Option("--scope", help="read, trade, stop or admin; may be given again.")],
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=24 * 366, help="How long it is valid.")] = 12.0,
    overrides: Overrides = None,
) -> None:
    """Make a token for the gateway that may do less than GATEWAY_TOKEN and ends. Needs GATEWAY_JWT_KEY."""
    from mt5_bridge.cli import tokens

    talk.say(tokens.made(_loaded(overrides).settings, subject, scope, hours))


@app.command()
def dlq(
    place: Annotated[
        str | None, typer.Argument(metavar="[PARTITION:OFFSET]", help="One of them, in full.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    overrides: Overrides = None,
) -> None:
    """List the dead letters: signals that could not be accepted, and why. Exit code 1 when the broker cannot tell."""
    from mt5_bridge.cli import letters
    from mt5_bridge.redpanda import quiet_library

    wanted = None if place is None else letters.place_of(place)
    loaded = _loaded(overrides)
    talk.warn(loaded)
    settings, shown = loaded.settings, letters.Shown(loaded.settings)
    with talk.without_log(), quiet_library():
        if wanted is None:
            found = asyncio.run(letters.newest(settings, limit))
        else:
            letter = asyncio.run(letters.one(settings, *wanted))
    if as_json:
        talk.say(letters.as_json(found if wanted is None else letter, shown))
    elif wanted is not None:
        for line in shown.lines(letter):
            talk.say(line)
    elif found:
        talk.table(letters.HEAD, [shown.row(each) for each in found])
    else:
        talk.say(f"No dead letters in {settings.dlq_topic}")
