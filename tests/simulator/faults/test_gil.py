"""A wait with the interpreter's lock held stops the whole process, as a call of the official package does."""

import threading
import time

from mt5_bridge.simulator.faults.gil import sleep_holding_the_gil


def test_no_other_thread_runs_meanwhile() -> None:
    beats: list[float] = []
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.001):
            beats.append(time.perf_counter())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        began = time.perf_counter()
        sleep_holding_the_gil(0.1)
        ended = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    assert ended - began >= 0.099
    # One beat may have been waiting for the lock on either side.
    assert sum(began + 0.01 < moment < ended - 0.01 for moment in beats) == 0
