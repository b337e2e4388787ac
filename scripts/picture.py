"""Draw docs/demo.svg: what the demo's live picture shows, from a real run of it.

.venv/bin/python scripts/picture.py
"""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
from rich.console import Console

from mt5_bridge.demo import run
from mt5_bridge.demo.screen import Display, Scene, picture

TARGET = Path(__file__).resolve().parents[1] / "docs/demo.svg"
WIDTH, HEIGHT = 112, 34
DURATION_S = 30
SHOWN_AFTER_S = 15.0


class Camera:
    """Keeps the scene of one moment: trading is under way, the closing stop has not come."""

    def __init__(self) -> None:
        self.scene: Scene | None = None

    def show(self, scene: Scene) -> None:
        """Take the first picture after the moment."""
        if self.scene is None and scene.elapsed >= SHOWN_AFTER_S:
            # The temporary folder of this run means nothing to a reader.
            self.scene = msgspec.structs.replace(scene, hint="mt5-bridge stop --data-dir FOLDER")


def main() -> int:
    """Exit code 1 when the demo failed, and no picture is drawn."""
    camera = Camera()

    @contextmanager
    def display(*, plain: bool) -> Iterator[Display]:
        yield camera

    run.display = display  # type: ignore[attr-defined]  # the one place where a picture is wanted, not a screen
    if run.run_demo(["--duration", str(DURATION_S)]) != 0 or camera.scene is None:
        return 1
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
    console.print(picture(camera.scene, WIDTH, HEIGHT))
    drawn = console.export_svg(title="mt5-bridge demo")
    # Whoever looks at the picture asks no third party for its fonts.
    TARGET.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
