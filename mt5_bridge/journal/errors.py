"""What the journal refuses: facts that contradict what it holds, and files it must not touch."""

from pathlib import Path

from mt5_bridge.core.errors import JournalError


class JournalRejected(JournalError):
    """A change contradicts what is journalled; nothing of its call was written, and repeating it cannot help."""

    retriable = False


class JournalConflict(JournalRejected):
    """The inbox already holds this signal.

    Attributes:
        key: the duplicate signal's key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"signal {key!r} is already in the inbox")
        self.key = key


class NotEntered(JournalError):
    """What has to come before is not in the journal, its own call failed; nothing of this call was written."""


class JournalUnusable(JournalError):
    """The file is damaged, foreign, or of a later version. It is never changed or deleted.

    Attributes:
        path: the file in question.
    """

    retriable = False

    def __init__(self, path: Path, fault: str, remedy: str) -> None:
        super().__init__(f"journal {path}: {fault}; {remedy}")
        self.path = path
