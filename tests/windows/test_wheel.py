"""The official MetaTrader5 wheel imports on the bridge's Windows Python, and answers as the bridge expects."""

import json
from pathlib import Path

from windows.kit import driver

ASK = """
import json, MetaTrader5 as mt5
print(json.dumps([mt5.__version__, mt5.initialize(), mt5.last_error()[0], mt5.account_info(), mt5.last_error()[0]]))
"""


def test_without_a_terminal_initialize_is_false_and_says_why(root: Path) -> None:
    code, output = driver.run("-c", ASK, cwd=root)
    assert code == 0, output
    version, initialized, why, account, then = json.loads(output.splitlines()[-1])
    assert version.startswith("5.")
    assert (initialized, why) == (False, -10003)
    assert (account, then) == (None, -10004)


def test_the_daemon_s_requirements_import(root: Path) -> None:
    code, output = driver.run("-c", "import mt5_bridge.core.wire, aiokafka, websockets, typer", cwd=root)
    assert code == 0, output
