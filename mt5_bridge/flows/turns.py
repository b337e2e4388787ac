"""Answers leave in the order of what was asked, unless one keeps the others waiting.

What is done first does not wait for ever behind what takes long: after `PATIENCE_S` it overtakes, so that a slow read
of the past keeps back no answer to a close.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from mt5_bridge.core.wire import RequestId

PATIENCE_S = 1.0

Answer = tuple[dict[str, Any], RequestId]


class Turn:
    """One question's place in the order; `answer` or `give_up` it once."""

    def __init__(self, turns: "Turns") -> None:
        self._turns = turns
        self.told: Answer | None = None
        self.over = False
        """Answered or given up: it keeps nobody waiting any more."""
        self.placed = False
        self.timer: asyncio.TimerHandle | None = None

    def answer(self, data: dict[str, Any], request_id: RequestId) -> None:
        """The answer is there: it leaves when its turn comes, or when patience is at its end."""
        self.told, self.over = (data, request_id), True
        self._turns.advance(self)
        if self.told is not None:
            self.timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._turns.overtake, self)

    def give_up(self) -> None:
        """There will be no answer; without effect when there was one."""
        self.over = True
        self._turns.advance()


class Turns:
    """The order of the answers.

    Args:
        send: sends one.
        most: places; a question beyond them is answered as soon as it can be.
    """

    def __init__(self, send: Callable[[dict[str, Any], RequestId], None], *, most: int) -> None:
        self._send = send
        self._most = most
        self._order: deque[Turn] = deque()

    def take(self) -> Turn:
        """The next place."""
        turn = Turn(self)
        if len(self._order) < self._most:
            self._order.append(turn)
            turn.placed = True
        return turn

    def advance(self, turn: Turn | None = None) -> None:
        """Send what has its turn now; `turn` also when it has no place."""
        if turn is not None and not turn.placed:
            self._tell(turn)
        while self._order and self._order[0].over:
            self._tell(self._order.popleft())

    def overtake(self, turn: Turn) -> None:
        """Send an answer that has waited long enough, and what is ready before it."""
        for each in self._order:
            self._tell(each)
            if each is turn:
                return

    def close(self) -> None:
        """Nothing is sent any more."""
        for turn in self._order:
            if turn.timer is not None:
                turn.timer.cancel()
        self._order.clear()

    def _tell(self, turn: Turn) -> None:
        if turn.timer is not None:
            turn.timer.cancel()
        told, turn.told = turn.told, None
        if told is not None:
            self._send(*told)
