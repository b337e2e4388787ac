"""A terminal that hangs: it opens the pipe that the MetaTrader5 wheel looks for, accepts, and never answers.

Run by a copy of Python named `terminal64.exe`: the wheel looks for a running program of the path it was given. Then
`MetaTrader5.initialize(path)` blocks for 100 s in the calling process, whatever its `timeout` says, and lets no other
thread of it run.

    terminal64.exe hung_terminal.py C:\\fake\\terminal64.exe SECONDS
"""

import ctypes
import ctypes.wintypes
import hashlib
import sys
import time

path, seconds = sys.argv[1], float(sys.argv[2])
kernel32 = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]  # mypy reads this file on every system
kernel32.CreateNamedPipeW.restype = ctypes.wintypes.HANDLE
for encoding in ("utf-16-le", "utf-8"):  # builds of the wheel differ in what they hash
    digest = hashlib.sha256(path.lower().encode(encoding)).hexdigest()
    kernel32.CreateNamedPipeW(rf"\\.\pipe\MT5.Terminal.{digest}", 3, 0, 16, 65536, 65536, 0, None)
sys.stdout.write("pipe open\n")
sys.stdout.flush()
time.sleep(seconds)
