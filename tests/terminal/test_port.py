from support.fake_terminal import FakeTerminal

from mt5_bridge.terminal.port import Terminal
from mt5_bridge.terminal.session import MT5SessionManager


def takes(terminal: Terminal) -> Terminal:
    """mypy proves here that both speak the port."""
    return terminal


def test_the_session_and_the_fake_implement_the_port() -> None:
    assert takes(FakeTerminal()).state == "connected"
    assert takes(MT5SessionManager()).state == "disconnected"
