"""These tests run bash, which Windows does not bring; there the compose file is the same and Docker Desktop runs it."""

import sys

collect_ignore = ["test_compose.py", "test_start_redpanda.py"] if sys.platform == "win32" else []
