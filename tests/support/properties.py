"""How many examples a property takes whose every example opens a journal, a terminal or a loop."""

import os

_DEEP = 20


def heavy(examples: int) -> int:
    """`max_examples` for such a property: so many, and twenty times as many under `HYPOTHESIS_PROFILE=deep`."""
    return examples * _DEEP if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else examples
