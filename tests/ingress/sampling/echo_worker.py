"""The child process in the tests of WorkerProcess: runs the commands of the test."""

import json
import mmap
import os
import signal
import socket
import sys
import time


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    kept = []
    connection.send(json.dumps({"ready": True, "arguments": sys.argv[2:]}).encode())
    while True:
        message, fds, _, _ = socket.recv_fds(connection, 1 << 16, 1)
        if not message:
            return
        match json.loads(message):
            case {"read": count}:
                connection.send(json.dumps({"content": os.read(fds[0], count).decode()}).encode())
            case {"fetch": ranges}:
                fetched = []
                for wanted in ranges:
                    connection.send(json.dumps({"fetch": wanted}).encode())
                    fetched.append(json.loads(connection.recv(1 << 16))["fetched"])
                connection.send(json.dumps({"fetched": fetched}).encode())
            case {"report": count, "every": seconds}:
                for _ in range(count):
                    time.sleep(seconds)
                    connection.send(b'{"progress": true}')
                connection.send(b"{}")
            case {"keep": count}:
                kept.append(b"x" * count)
                connection.send(b"{}")
            case {"use": count}:
                mmap.mmap(-1, count).close()
                connection.send(b"{}")
            case {"say": text}:
                connection.send(text.encode())
            case {"exit": code}:
                sys.exit(code)
            case {"hang": _}:
                time.sleep(600)
            case {"use up": "CPU time"}:
                os.kill(os.getpid(), signal.SIGXCPU)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main()
