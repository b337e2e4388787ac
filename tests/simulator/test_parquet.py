"""Ticks from Parquet files, where pyarrow is installed: `.ci/run` installs it, a first try of the project need not."""

from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator.market import tickfile

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

NOON = int(datetime(2024, 1, 3, 12, tzinfo=UTC).timestamp()) * 1000


def table(folder: Path, name: str, **columns: object) -> Path:
    path = folder / name
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_by_any_name(tmp_path: Path) -> None:
    moments = [datetime(2024, 1, 3, 12, 0, 0, 100_000, UTC), datetime(2024, 1, 3, 12, 0, 0, 250_000, UTC)]
    prices = {"bid": [1.1, 1.10005], "ask": [1.1001, 1.10012]}
    milliseconds = [NOON + 100, NOON + 250]
    nanoseconds = [moment * 1_000_000 + 7 for moment in milliseconds]
    tables = [
        table(tmp_path, "a.parquet", timestamp=moments, **prices),
        table(tmp_path, "b.parquet", Timestamp=[moment.isoformat() for moment in moments], **prices),
        table(tmp_path, "c.parquet", time=[m / 1000 for m in milliseconds], time_msc=milliseconds, **prices),
        table(tmp_path, "d.parquet", time=[m / 1000 for m in milliseconds], **prices),
        table(tmp_path, "e.parquet", timestamp=pyarrow.array(milliseconds, pyarrow.timestamp("ms")), **prices),
        table(tmp_path, "f.parquet", time=pyarrow.array(nanoseconds, pyarrow.timestamp("ns")), **prices),
    ]
    for path in tables:
        recording = tickfile.read([path])
        times, bids, asks = recording.ticks
        assert (times.tolist(), bids.tolist()) == (milliseconds, [110_000, 110_005]), path
        assert asks.tolist() == [110_010, 110_012]
        assert recording.extra is None
    traded = tickfile.read(
        [table(tmp_path, "g.parquet", timestamp=moments, last=[1.1, None], volume=[2, None], **prices)]
    )
    assert traded.extra is not None
    assert traded.extra.traded.tolist() == [True, False]


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"timestamp": ["2024-01-03"], "bid": [1.1]}, "no columns timestamp, bid and ask"),
        ({"timestamp": ["2024-01-03"], "bid": [1.1], "ask": [None]}, "empty fields"),
        ({"timestamp": ["soon"], "bid": [1.1], "ask": [1.1]}, "Invalid isoformat"),
        ({"timestamp": [date(2024, 1, 3)], "bid": [1.1], "ask": [1.1]}, "neither texts nor numbers"),
        ({"timestamp": ["2024-01-03"], "bid": [[1.1]], "ask": [1.1]}, "neither texts nor numbers"),
        ({"time": [float("inf")], "bid": [1.1], "ask": [1.1]}, "use a format"),
        ({"time": [10.0**17], "bid": [1.1], "ask": [1.1]}, "use a format"),
        ({"time": [10.0**15], "bid": [1.1], "ask": [1.1]}, "at 1000000000000000000 ms"),
    ],
)
def test_bad_tables_are_told(tmp_path: Path, columns: dict[str, list[object]], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        tickfile.read([table(tmp_path, "x.parquet", **columns)])


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and nothing more PAR1")
    with pytest.raises(SettingsError, match="no readable Parquet file"):
        tickfile.read([path])
    whole = table(tmp_path, "y.parquet", time=list(range(500)), bid=[1.1] * 500, ask=[1.1] * 500).read_bytes()
    for place in range(4, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        with suppress(SettingsError):  # what is no fault to the reader may be read
            tickfile.read([path])
