"""Opening a page for the person at this machine, where there is one to see it."""

import os
import sys
import webbrowser


def has_display() -> bool:
    """Whether a browser could show a window here. Without one, `webbrowser` would start a browser in this terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_page(url: str) -> bool:
    """Open a page in the person's browser; False when there is none."""
    if not has_display():
        return False
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False
