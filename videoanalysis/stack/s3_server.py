"""An S3 protocol server on loopback: `python -m videoanalysis.stack.s3_server ADDRESS_FILE`, which gets its host:port.

Takes any credentials. Its objects lie in memory and end with the process.
"""

import logging
import signal
import sys
from pathlib import Path

from moto.server import ThreadedMotoServer

from videoanalysis.atomic_write import write_whole


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m videoanalysis.stack.s3_server ADDRESS_FILE")
    # Otherwise a line for every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    write_whole(Path(sys.argv[1]), f"{host}:{port}".encode())
    # The requests are served by threads, which SIGTERM ends with the process.
    signal.pause()


if __name__ == "__main__":
    main()
