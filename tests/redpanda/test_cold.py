import subprocess
import sys

import pytest

from mt5_bridge.redpanda.cold import load_late

PROGRAM = """
import sys
import mt5_bridge.redpanda
from aiokafka import codec

assert "cramjam.cramjam" not in sys.modules, "loaded before it was used"
assert codec.zstd_decode(codec.zstd_encode(b"x" * 99)) == b"x" * 99
loaded = sys.modules["cramjam.cramjam"]
assert not hasattr(codec.cramjam, "nothing_of_the_kind")
assert sys.modules["cramjam.cramjam"] is loaded, "loaded twice"
"""


def test_the_codecs_are_loaded_with_the_first_record_that_needs_them() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)


def test_what_is_loaded_stays_as_it_is() -> None:
    before = sys.modules["json"]
    load_late("json")
    assert sys.modules["json"] is before


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_late("no_such_package")
