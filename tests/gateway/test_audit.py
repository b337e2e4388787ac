import asyncio

from support.eventually import eventually
from support.simulated import simulated

from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.times import MINUTE
from mt5_bridge.gateway import audit as module
from mt5_bridge.gateway.audit import Audit
from mt5_bridge.journal import changes

STOP = "POST /emergency-stop"


class Disk:
    """A journal that can be out of order."""

    def __init__(self) -> None:
        self.kept: list[changes.Audited] = []
        self.broken = False
        self.commits = 0

    async def commit(self, *batch: changes.Change) -> None:
        self.commits += 1
        await asyncio.sleep(0.01)
        if self.broken:
            raise JournalError("full")
        self.kept += [one for one in batch if isinstance(one, changes.Audited)]


def test_entries_are_written_in_order_many_at_once_and_before_the_end() -> None:
    @simulated
    async def run() -> None:
        disk = Disk()
        audit = Audit(disk, lambda: 42)
        audit.note("early", "POST /x")
        audit.start()
        for number in range(500):
            audit.note("ann", f"POST /{number}", "200")
        await audit.stop(1.0)
        assert [entry.what for entry in disk.kept] == ["POST /x", *(f"POST /{number}" for number in range(500))]
        assert disk.kept[1] == changes.Audited(at_msc=42, who="gateway:ann", what="POST /0", detail="200")
        assert disk.commits < 10
        assert audit.stats.written == 501

    run()


def test_what_the_disk_does_not_take_waits_for_it_within_bounds() -> None:
    @simulated
    async def run() -> None:
        disk = Disk()
        disk.broken = True
        audit = Audit(disk, lambda: 42)
        audit.start()
        for number in range(module.MOST_WAITING + 300):
            audit.note("ann", str(number), "x" * 1000)
        assert audit.stats.lost == 300
        await asyncio.sleep(5)
        disk.broken = False
        await eventually(lambda: audit.stats.written == module.MOST_WAITING, 30)
        assert [entry.what for entry in disk.kept] == [str(number) for number in range(module.MOST_WAITING)]
        assert len(disk.kept[0].detail) == 500
        await audit.stop(1.0)

    run()


def test_the_end_does_not_wait_for_a_disk_that_hangs() -> None:
    @simulated
    async def run() -> None:
        disk = Disk()
        disk.broken = True
        audit = Audit(disk, lambda: 42)
        audit.start()
        audit.note("ann", "x")
        began = asyncio.get_running_loop().time()
        await audit.stop(1.0)
        assert asyncio.get_running_loop().time() - began < 2
        await Audit(disk, lambda: 1).stop(1.0)

    run()


def test_what_is_done_too_often_is_written_as_a_number() -> None:
    """A token that may stop and nothing else is never limited: it must not fill the disk."""

    @simulated
    async def run() -> None:
        disk, now = Disk(), [0]
        audit = Audit(disk, lambda: now[0])
        audit.start()
        for number in range(5_000):
            audit.note("ann", STOP, f"200 request {number}", unlimited=True)
        audit.note("bob", STOP, "200", unlimited=True)
        now[0] = MINUTE
        audit.note("ann", "POST /order", "200")
        await audit.stop(1.0)
        anns = [entry for entry in disk.kept if entry.who == "gateway:ann"]
        assert [entry.what for entry in anns] == [STOP] * (module.ALIKE_A_MINUTE + 1) + ["POST /order"]
        more = 5_000 - module.ALIKE_A_MINUTE
        assert anns[-2].detail == f"{more} more within a minute, the last: 200 request 4999"
        assert [entry.who for entry in disk.kept].count("gateway:bob") == 1
        assert audit.stats.joined == more

    run()


def test_a_number_does_not_wait_for_somebody_to_act() -> None:
    @simulated
    async def run() -> None:
        disk = Disk()
        began = asyncio.get_running_loop().time()
        audit = Audit(disk, lambda: round((asyncio.get_running_loop().time() - began) * 1000))
        audit.start()
        for _ in range(module.ALIKE_A_MINUTE + 3):
            audit.note("ann", "x", "y", unlimited=True)
        await eventually(lambda: len(disk.kept) == module.ALIKE_A_MINUTE + 1, 180)
        assert disk.kept[-1].detail == "3 more within a minute, the last: y"
        await audit.stop(1.0)

    run()


def test_the_end_writes_what_was_counted() -> None:
    @simulated
    async def run() -> None:
        disk = Disk()
        audit = Audit(disk, lambda: 42)
        audit.start()
        for _ in range(module.ALIKE_A_MINUTE + 3):
            audit.note("ann", "x", "y", unlimited=True)
        await audit.stop(1.0)
        assert disk.kept[-1].detail == "3 more within a minute, the last: y"

    run()


def test_kinds_without_end_are_not_kept() -> None:
    audit = Audit(Disk(), lambda: 42)
    for number in range(3 * module._KINDS_MOST):
        audit.note("ann", str(number), unlimited=True)
    assert len(audit._kinds) <= module._KINDS_MOST
