"""The demo's programs without its screen, for a browser to look at; and what axe says of a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.eventually import wait_for

from mt5_bridge.demo import run
from mt5_bridge.demo.children import Child, Children

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = Path(__file__).parents[1] / "browser/node_modules/axe-core/axe.min.js"
PHONE = {"width": 390, "height": 844}
VIEWER = "a-viewer-who-reads"


class Demo:
    """The demo's programs, without its screen; a person's token and a viewer's are known."""

    def __init__(self, folder: Path, symbols: str = run.SYMBOLS) -> None:
        self.folder = folder
        self.symbols = symbols
        self.children = Children(folder)
        self.token = "a-token-for-tests"
        self.backend_address = ""
        self.page = ""

    def start(self) -> None:
        """All of it, dashboard included."""
        environment = run._own_environment() | {"BACKEND_AUTH_TOKEN": self.token, "BACKEND_VIEWER_TOKEN": VIEWER}
        broker = self.children.start("broker", ("-m", "mt5_bridge.demo.broker"), environment)
        bootstrap = said(broker, "bootstrap")
        self.start_backend(environment, bootstrap, "127.0.0.1:0")
        settings = {
            "BRIDGE_ID": "demo", "DATA_DIR": str(self.folder), "TERMINAL": "paper", "TRADING_ENABLED": "true",
            "SYMBOLS": self.symbols, "PAPER_SPEED": "5", "BACKEND_WS_URL": f"ws://{self.backend_address}/bridge",
            "REDPANDA_BOOTSTRAP_SERVERS": bootstrap, "ACCOUNT_INTERVAL": "1", "HEARTBEAT_INTERVAL": "1",
            "MAX_DAILY_TRADES": "1000",
        }  # fmt: skip
        self.children.start(
            "bridge", ("-m", "mt5_bridge.demo.child", "run", "--mode", "hybrid"), environment | settings
        )
        place = ("--url", f"ws://{self.backend_address}/dashboard", "--listen", "127.0.0.1:0")
        dashboard = self.children.start(
            "dashboard",
            ("-m", "mt5_bridge", "dashboard", *place, "--no-browser", "--until-eof"),
            environment | {"DASHBOARD_TOKEN": self.token},
            needed=False,
        )
        self.page = said(dashboard, "dashboard")
        self._restart = (environment, bootstrap)

    def start_backend(self, environment: dict[str, str], bootstrap: str, listen: str) -> None:
        """The reference backend, with its demo signals."""
        arguments = ("--listen", listen, "--bootstrap", bootstrap, "--demo-signals", "0.7", "--until-eof")
        self.backend = self.children.start("backend", ("-m", "mt5_bridge.demo.backend", *arguments), environment)
        self.backend_address = said(self.backend, "listening")

    def restart_backend(self) -> None:
        """On the same port as before."""
        self.start_backend(*self._restart, self.backend_address)

    @property
    def address(self) -> str:
        """Of the page, without the code."""
        return self.page.partition("enter#")[0]


def said(child: Child, field: str) -> str:
    return wait_for(lambda: child.announced(field), 60.0, f"{child.name} says {field}") or ""


def foreign(url: str, demo: Demo) -> bool:
    return not url.startswith((demo.address, demo.address.replace("http", "ws", 1), "data:", "blob:"))


def violations(page: "Page") -> list[Any]:
    """What axe finds that is serious or worse."""
    assert AXE.exists(), "npm ci --prefix tests/browser"
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        (rule["id"], rule["impact"], [node["html"][:200] for node in rule["nodes"]][:3])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
