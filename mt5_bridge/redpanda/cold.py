"""What aiokafka imports at once and few bridges ever use is loaded when it is used.

Imported before aiokafka. `cramjam` reads and writes snappy, LZ4 and Zstandard; loaded, it takes 2 MiB.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any


class _Cold(ModuleType):
    """Stands for a module until somebody asks for anything in it.

    `importlib.util.LazyLoader` cannot: a second `import` statement is enough to make it load.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        loaded = importlib.import_module(self.__name__)
        self.__dict__.update(loaded.__dict__)
        return getattr(loaded, name)


def load_late(name: str) -> None:
    """Let the module be loaded at the first look at anything in it; nothing happens where it is loaded already.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    cold = sys.modules[name] = _Cold(name)
    cold.__spec__ = spec


load_late("cramjam")
