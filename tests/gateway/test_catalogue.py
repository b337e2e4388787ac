"""The catalogue keeps Prometheus' own rules for names."""

import re

from mt5_bridge.gateway.catalogue import FAMILIES, SECTIONS, Kind

UNITS = {
    "seconds": "seconds",
    "bytes": "bytes",
    "ratio": "ratio",
}


def test_no_name_is_given_twice() -> None:
    assert len(FAMILIES) == sum(len(section) for section in SECTIONS.values())


def test_names_tell_kind_and_unit() -> None:
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"mt5_bridge_[a-z0-9_]+", name)
        assert name.endswith("_total") == (family.kind is Kind.COUNTER), name
        stem = name.removesuffix("_total")
        for ending, unit in UNITS.items():
            if stem.endswith(f"_{ending}"):
                assert family.unit.startswith(unit), name
        if family.kind is Kind.HISTOGRAM:
            assert (stem.rsplit("_", 1)[1], family.unit) == ("seconds", "seconds")
            assert "le" not in family.labels
        assert all(re.fullmatch(r"[a-z_]+", label) for label in family.labels), name
        assert family.meaning.endswith("."), name
