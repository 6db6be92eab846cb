import subprocess
import sys

from tests.cluster.freezing_pod import PROGRAM

COUNTING = """
import time
while True:
    print("tick", time.time(), flush=True)
    time.sleep(0.02)
"""


def test_the_program_stops_its_command_and_lets_it_go_on():
    """As in the pod: its text, by `python -c`."""
    command = [sys.executable, "-u", "-c", PROGRAM.read_text(), "2", "1", sys.executable, "-u", "-c", COUNTING]
    ticks: list[float] = []
    times: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        for line in process.stdout:
            word, at = line.split()
            if word == "tick":
                ticks.append(float(at))
            else:
                times[word] = float(at)
            if "resumed" in times and ticks and ticks[-1] > times["resumed"]:
                break
        process.terminate()
        process.communicate(timeout=20)

    assert times["resumed"] - times["frozen"] >= 0.9
    # One may have been on its way.
    assert not [tick for tick in ticks if times["frozen"] + 0.1 < tick < times["resumed"]]
