"""What the garbage collector need not look at again and again."""

import gc

YOUNG = 10_000
"""Objects made, and not gone again, until the collector looks at them; Python's own 700 cost up to a third of a busy
loop's time, and nearly nothing that a bridge makes by the thousand is left to the collector."""


def keep_what_is_there() -> None:
    """Everything alive now stays: the collector passes over it from now on, and looks more rarely at what comes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)


def let_go() -> None:
    """What was kept may be gone by now: the next `keep_what_is_there` looks at all of it once more."""
    gc.unfreeze()
