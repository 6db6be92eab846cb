"""An S3 server on loopback, for tests and demos: `python -m videoanalysis.stack.s3_server ADDRESS_FILE`.

Writes its host:port to ADDRESS_FILE. Accepts any credentials and keeps objects in memory.
"""

import logging
import signal
import sys
from pathlib import Path

from moto.server import ThreadedMotoServer

from videoanalysis.atomic_write import write_atomically


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m videoanalysis.stack.s3_server ADDRESS_FILE")
    # Otherwise a line for every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    write_atomically(Path(sys.argv[1]), f"{host}:{port}".encode())
    # Requests run on threads, which end with the process at SIGTERM.
    signal.pause()


if __name__ == "__main__":
    main()
