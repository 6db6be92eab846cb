"""Runs a command and stops its processes for a while, as on a node that hangs: after, seconds, command.

It must not be the container's first process, which no signal from inside the container stops.
"""

import os
import signal
import subprocess
import sys
import time


def main(after: float, seconds: float, command: list[str]) -> int:
    print("started", flush=True)
    process = subprocess.Popen(command, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    time.sleep(after)
    os.killpg(process.pid, signal.SIGSTOP)
    print(f"frozen {time.time()}", flush=True)
    time.sleep(seconds)
    # Both times lie within the pause, however late this process continues.
    print(f"resumed {time.time()}", flush=True)
    os.killpg(process.pid, signal.SIGCONT)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
