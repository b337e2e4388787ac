"""Where the bridge keeps its things, and whether it may."""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mt5_bridge.core.errors import SettingsError

FOLDER = "mt5-bridge"

JOURNAL = "journal.db"
LATCH = "halt.latch"
CONTROL = "control.json"
STOP_FILE = "EMERGENCY_STOP"
HOST_LOCK = "host.lock"


def user_data_dir(env: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The platform's folder for a program's data of this user."""
    home = Path.home()
    if platform == "win32":
        return Path(env.get("LOCALAPPDATA") or home / "AppData" / "Local") / FOLDER
    if platform == "darwin":
        return home / "Library" / "Application Support" / FOLDER
    return Path(env.get("XDG_DATA_HOME") or home / ".local" / "share") / FOLDER


def prepare_data_dir(path: Path) -> Path:
    """Makes the folder, readable by its owner only, and tries whether files can be written in it.

    Raises:
        SettingsError: it cannot be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
    except OSError as error:
        why = error.strerror or str(error)
        raise SettingsError(
            f"DATA_DIR: {str(path)!r} cannot be written ({why}); make it writable, free space, or name another folder"
        ) from error
    return path
