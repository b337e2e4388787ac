"""What the terminal host asks of Windows itself."""

from pathlib import Path

from windows.kit import driver

PROGRAM = """
import psutil
from mt5_bridge.terminal import host

before = psutil.Process().nice()
host._stand_back()
print(before == psutil.NORMAL_PRIORITY_CLASS, psutil.Process().nice() == psutil.BELOW_NORMAL_PRIORITY_CLASS)
"""


def test_the_host_of_the_past_stands_back(root: Path) -> None:
    code, output = driver.run("-c", PROGRAM, cwd=root)
    assert code == 0, output
    assert output.split() == ["True", "True"]
