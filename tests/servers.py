"""A real web server for tests of downloads, which can be told to misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from epiloom.data.download import fetch

ROOT = Path(__file__).resolve().parents[1]
DATA = random.Random(1).randbytes(1_500_000)
BIG = random.Random(2).randbytes(5_000_000)
PAGE = b"\n <!DOCTYPE HTML>\n<html><body>Not here</body></html>" + b" " * 2000


class Server(ThreadingHTTPServer):
    """Serves `files`; `rules` (path -> function(handler, number of the request)) misbehave."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.rules: dict[str, Callable] = {}
        self.log: list[tuple[str, str | None, float]] = []
        self.sent: Counter[str] = Counter()
        self.at = f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, path: str) -> list[str | None]:
        """The Range headers of the requests for a path."""
        return [span for name, span, _ in self.log if name == path]

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Keep the test's output clean."""

    def do_GET(self):
        server, path = self.server, self.path
        server.log.append((path, self.headers.get("Range"), time.monotonic()))
        number = len(server.asked(path))
        if path in server.rules:
            server.rules[path](self, number)
        elif path in server.files:
            self.give(server.files[path])
        else:
            self.answer(404, b"no such thing")

    def answer(self, status: int, body: bytes = b"", **headers: str):
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.write(body)

    def write(self, body: bytes):
        self.wfile.write(body)
        self.server.sent[self.path] += len(body)

    def give(self, content: bytes, upto: int | None = None, ranges=True, then=None, etag="1"):
        """Serve a file; after `upto` bytes of this answer do `then` and hang up."""
        start, condition = 0, self.headers.get("If-Range")
        span = self.headers.get("Range")
        tag = f'"{etag}-{len(content)}"'
        if ranges and span and condition in (None, tag):
            start = int(span.removeprefix("bytes=").rstrip("-"))
        if start >= len(content) > 0:
            return self.answer(416, Content_Range=f"bytes */{len(content)}")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        self.write(content[start:] if upto is None else content[start : start + upto])
        if upto is not None:
            self.wfile.flush()
            self.close_connection = True
            if then:
                then()
        return None


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server in a thread of its own."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(server: Server, path: str, target: Path, **options) -> None:
    fetch([server.at + path], target, **{"wait": 0.01, "timeout": 5, **options})


def only(target: Path) -> bool:
    """Whether the folder holds the target and nothing beside it."""
    return [item.name for item in target.parent.iterdir()] == [target.name]


def md5(content: bytes) -> str:
    return "md5:" + hashlib.md5(content).hexdigest()


def start_fetch(url: str, target: Path, **options) -> subprocess.Popen:
    code = (
        f"from epiloom.data.download import fetch; fetch([{url!r}], {str(target)!r}, **{options})"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)
