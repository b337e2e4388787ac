"""What every test gets: hypothesis profiles, and a check that nothing is left running.

Helpers live in `tests/support/` and are imported as `from support.eventually import eventually`.
"""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, settings
from support.eventually import poll_until

if TYPE_CHECKING:
    from support.certificates import Authority, Certificate

settings.register_profile(
    "default", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", settings.get_profile("default"), derandomize=False, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Hundreds of children of the tests import the package: each would compile all of it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

GRACE_S = 3.0
"""How long a thread or child that was told to end may still take to do so."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every asynchronous test the check for tasks, and leave the loop-less ones without a loop."""
    for item in items:
        if isinstance(item, pytest.Function) and asyncio.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_task_left")


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task in its loop: set up first, so it looks after all other fixtures have closed."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)  # a task whose cancellation was just awaited elsewhere finishes in this turn
    left = asyncio.all_tasks() - before - {task for task in (asyncio.current_task(),) if task}
    assert not left, f"tasks left running: {sorted(task.get_name() for task in left)}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> "Authority":
    """A certificate authority of the module's own."""
    from support.certificates import Authority  # where no test asks for it, `cryptography` need not be there

    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: "Authority") -> "Certificate":
    """A certificate of the authority's, and its key."""
    return authority.issue("bridge")


@pytest.fixture(scope="module")
def locked(authority: "Authority") -> "Certificate":
    """One whose key has the password `key-secret`."""
    return authority.issue("locked", password="key-secret")


@pytest.fixture(scope="module", autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail the module that leaves a non-daemon thread behind: it would hold the interpreter at exit."""
    before = set(threading.enumerate())
    yield
    mine = threading.current_thread()

    def left() -> list[str]:
        return [t.name for t in threading.enumerate() if t not in before and t is not mine and not t.daemon]

    assert poll_until(lambda: not left(), GRACE_S), f"threads left running: {left()}"


@pytest.fixture(scope="session", autouse=True)
def no_child_left() -> Iterator[None]:
    """Fail the run that leaves a child process of the tests behind."""
    yield
    gc.collect()
    mine = psutil.Process()

    def left() -> list[str]:
        return [_describe(child) for child in mine.children(recursive=True) if _runs(child)]

    assert poll_until(lambda: not left(), GRACE_S), f"processes left running: {left()}"


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)
