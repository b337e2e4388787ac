"""The Python example of docs/backend.md, on a running bridge."""

import sys
from pathlib import Path

from support.examples import bridge, example, run


async def test_the_python_example_receives_ticks_and_gets_its_signal_filled(tmp_path: Path) -> None:
    async with bridge(tmp_path) as bootstrap:
        code = example("python", bootstrap)
        said = (await run([sys.executable, "-c", code], folder=tmp_path)).splitlines()
    assert any(line.startswith("tick_data {'symbol': 'EURUSD'") for line in said)
    assert said[-1].startswith("order_result ")
    assert "'status': 'filled'" in said[-1]
