"""How many frames are sent before their arrival is awaited: as many as the backend reads at once. Pure."""

FIRST = 64
LEAST = 4
MOST = 256
SLOW_S = 1.0
QUICK_S = 0.25


class Window:
    """Grows while pongs come at once, shrinks when the backend is slow, so that a ping never waits long in a queue."""

    def __init__(self) -> None:
        self.size = FIRST

    def answered(self, seconds: float) -> None:
        """The pong of a ping behind a handful of frames came after so long."""
        if seconds > SLOW_S:
            self.size = max(LEAST, self.size // 2)
        elif seconds < QUICK_S:
            self.size = min(MOST, self.size * 2)
