"""The programs of the demo: asked to end, killed when they do not."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.eventually import wait_for

from mt5_bridge.demo.children import Children

OBEDIENT = "import sys; print('{\"ready\": 5}', flush=True); sys.stdin.read()"
STUBBORN = "import sys, time; print('up', flush=True)\nwhile True: time.sleep(1)"


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    with Children(tmp_path, grace=0.3) as all_of_them:
        yield all_of_them


def test_ends_what_listens_and_kills_what_does_not(children: Children) -> None:
    obedient = children.start("obedient", ("-c", OBEDIENT), os.environ)
    stubborn = children.start("stubborn", ("-c", STUBBORN), os.environ)
    wait_for(lambda: obedient.announced("ready"))
    wait_for(lambda: stubborn.last_lines(1))
    assert obedient.announced("ready") == "5"
    assert obedient.announced("other") is None
    assert children.dead() is None
    assert children.end() == ["stubborn"]
    assert obedient.ended == 0
    assert stubborn.ended != 0


def test_names_the_dead(children: Children) -> None:
    child = children.start("dying", ("-c", "import sys; sys.exit('why')"), os.environ)
    assert wait_for(children.dead) is child
    assert child.last_lines(5) == ["why"]


def test_a_log_that_is_gone_says_nothing(children: Children) -> None:
    child = children.start("quick", ("-c", ""), os.environ)
    wait_for(children.dead)
    child.log.unlink()
    assert child.last_lines(5) == []


def test_the_package_runs_as_a_child_that_ends_with_its_input(children: Children, tmp_path: Path) -> None:
    """`demo.child` runs the package's command line and interrupts it at the end of standard input."""
    fake = tmp_path / "mt5_bridge_main.py"
    fake.write_text(
        "import runpy, signal, sys, time\n"
        "import mt5_bridge.demo.child as child\n"
        "def instead(name, run_name):\n"
        "    print('{\"ready\": \"%s %s\"}' % (name, ' '.join(sys.argv)), flush=True)\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "    while True: time.sleep(0.05)\n"
        "child.runpy.run_module = instead\n"
        "child.main()\n",
        encoding="utf-8",
    )
    package = str(Path(__file__).parents[2])
    child = children.start("child", (str(fake), "run", "--mode", "hybrid"), os.environ | {"PYTHONPATH": package})
    wait_for(lambda: child.announced("ready"))
    assert child.announced("ready") == "mt5_bridge mt5-bridge run --mode hybrid"
    child.ask_to_end()
    assert wait_for(lambda: child.ended is not None)
    assert child.ended == (0 if sys.platform != "win32" else child.ended)
