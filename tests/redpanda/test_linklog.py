"""What the log says of a broker that comes and goes."""

from collections.abc import Iterator

import pytest
from support.logged import event, logged, with_level

from mt5_bridge.core.reminder import Reminder
from mt5_bridge.redpanda.config import LinkState
from mt5_bridge.redpanda.linklog import LinkLog

UP, DOWN, TRYING = LinkState.CONNECTED, LinkState.DISCONNECTED, LinkState.CONNECTING


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with logged(event) as events, logged(with_level) as found:
        yield found
    assert set(events) == {"x_state"}


class Link:
    def __init__(self) -> None:
        self.now = 0.0
        self.log = LinkLog("Producer", "x_state", lambda: self.now)

    def retry(self, seconds: float, cause: str = "refused") -> None:
        until = self.now + seconds
        while self.now < until:
            self.log.tell(TRYING, "host:1")
            self.log.trouble(DOWN, cause)
            self.now += 0.5


def test_an_outage_is_two_lines_and_a_reminder_a_minute(lines: list[str]) -> None:
    link = Link()
    link.log.tell(TRYING, "host:1")
    link.log.tell(UP, "host:1")
    link.log.tell(UP, "host:1")
    link.now = 100
    link.retry(30)
    link.retry(1, "TLS failed")
    link.retry(60)
    link.log.tell(UP, "host:1")
    link.log.tell(DOWN, "stopped")
    assert lines == [
        "INFO Producer connecting: host:1",
        "INFO Producer connected: host:1",
        "WARNING Producer disconnected: refused",
        "WARNING Producer disconnected: TLS failed",
        "WARNING Producer disconnected: refused",
        "INFO Producer connected: host:1",
        "INFO Producer disconnected: stopped",
    ]


def test_a_connection_that_comes_and_goes_does_not_flood_the_log(lines: list[str]) -> None:
    link = Link()
    for _ in range(50):
        link.log.tell(UP, "host:1")
        link.now += 0.5
        link.log.trouble(DOWN, "closed")
    assert lines == ["INFO Producer connected: host:1", "WARNING Producer disconnected: closed"]
    for _ in range(20):
        link.log.tell(UP, "host:1")
        link.now += 0.5
    assert lines[2:] == ["INFO Producer connected: host:1"], "when it lasts"


def test_after_a_steady_while_the_same_cause_is_news(lines: list[str]) -> None:
    link = Link()
    for _ in range(2):
        link.log.tell(UP, "host:1")
        link.now += 10
        link.log.trouble(DOWN, "closed")
    assert len(lines) == 4


def test_what_two_connections_suffer_is_told_by_one(lines: list[str]) -> None:
    told, now = Reminder(), 0.0
    logs = [LinkLog(who, "x_state", lambda: now, told=told) for who in ("Producer", "Signals")]
    for _ in range(3):
        for log in logs:
            log.trouble(DOWN, "wrong password")
        now += 1.0
    logs[1].trouble(DOWN, "no right to read")
    assert lines == ["WARNING Producer disconnected: wrong password", "WARNING Signals disconnected: no right to read"]
    lines.clear()
    for log in logs:
        log.tell(UP, "host:1")
    assert lines == ["INFO Producer connected: host:1", "INFO Signals connected: host:1"]
