"""HTTP pages on loopback that a test can change."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Pages:
    """`texts` by path, each with `status`; the requested paths are in `requested`."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.status = 200
        self.requested: list[str] = []
        self.url = ""


@contextmanager
def serving(texts: dict[str, str], content_type: str = "text/plain") -> Iterator[Pages]:
    pages = Pages(texts)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages.requested.append(self.path)
            body = pages.texts.get(self.path.partition("?")[0], "").encode()
            self.send_response(pages.status if body else 404)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        pages.url = f"http://127.0.0.1:{server.server_port}"
        yield pages
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
