"""The official MetaTrader5 wheel imports on the bridge's Windows Python, and answers as the bridge expects."""

import json
from pathlib import Path

from windows.kit import driver

ASK = """
import json, MetaTrader5 as mt5
print(json.dumps([mt5.__version__, mt5.initialize(), mt5.last_error()[0], mt5.account_info(), mt5.last_error()[0]]))
"""
CONTRACT = "tests/contract/test_wheel_contract.py"


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


def test_the_wheel_passes_the_contract_that_the_paper_terminal_passes(root: Path) -> None:
    pytest = ("-m", "pytest", CONTRACT, "-q", "-p", "no:cacheprovider", "--noconftest")
    code, output = driver.run(*pytest, cwd=root, env={"CONTRACT_MODULE": "MetaTrader5"}, timeout=200)
    assert code == 0, output
    assert " passed" in output.splitlines()[-1]
