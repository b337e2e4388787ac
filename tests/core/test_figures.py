from mt5_bridge.core.figures import by_label, kept, one, state_set


def test_what_is_not_known_is_left_out() -> None:
    assert kept({"a": one(None), "b": one(0.0), "c": by_label({})}) == {"b": [((), 0.0)]}


def test_one_state_holds_at_a_time() -> None:
    assert state_set(("on", "off"), "off") == [(("on",), 0.0), (("off",), 1.0)]
    assert state_set(("up",), "strange", "terminal") == [(("terminal", "up"), 0.0), (("terminal", "strange"), 1.0)]


def test_a_series_for_each_label() -> None:
    assert by_label({"x": 1.0, "y": 2.0}) == [(("x",), 1.0), (("y",), 2.0)]
