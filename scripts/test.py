"""The tests on a fresh machine: makes .venv from the lock file, then runs pytest with the same arguments."""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this must be readable for the Python that is too old
    sys.exit("MT5 Bridge needs Python 3.11 or later; this is %d.%d." % sys.version_info[:2])  # noqa: UP031 - likewise

from setup_env import ROOT, run

# Tests of real processes mostly wait for them: a worker for each core, whole files to each, as modules share servers.
WORKERS = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]

if __name__ == "__main__":
    os.chdir(str(ROOT))
    sys.exit(run("dev", ["-m", "pytest"] + WORKERS + sys.argv[1:]))  # noqa: RUF005 - likewise
