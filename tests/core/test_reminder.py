"""What is told again, and what is not."""

from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.core.reminder import Reminder


def test_each_cause_once_then_one_reminder_a_minute() -> None:
    reminder = Reminder()
    assert [reminder.due("refused", now) for now in (0, 1, 2)] == [True, False, False]
    assert [reminder.due("timeout", now) for now in (3, 4)] == [True, False]
    assert [reminder.due(text, 50.0) for text in ("refused", "timeout")] == [False, False]
    assert [reminder.due(text, 63.0) for text in ("refused", "timeout")] == [True, False]


def test_what_is_over_is_news_when_it_comes_back() -> None:
    reminder = Reminder()
    assert not reminder.settled()
    assert reminder.due("refused", 0)
    assert reminder.settled()
    assert reminder.due("refused", 1)


@given(st.lists(st.text(), max_size=200))
def test_however_many_causes_there_are_the_lines_are_bounded(texts: list[str]) -> None:
    reminder = Reminder()
    assert sum(reminder.due(text, 10.0) for text in texts) <= 16
