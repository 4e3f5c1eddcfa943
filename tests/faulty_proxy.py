"""An HTTP server in front of another one, which fails as many requests as a test asks for, and passes on the rest.

In: the address of a server. Out: its own address, and `fail(kind, times)`. Failures end by their number, by no clock.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

UNAVAILABLE = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>"


class FaultyProxy:
    """Kinds of failures: "503" (busy), "drop" (the connection ends before an answer), "cut" (in the middle of one),
    "redirect" (another region, as S3 says it)."""

    def __init__(self, upstream: str) -> None:
        self.upstream, self.url = upstream, ""
        self._lock, self._kind, self._left = threading.Lock(), "", 0
        self.failed = 0

    def fail(self, kind: str, times: int) -> None:
        with self._lock:
            self._kind, self._left, self.failed = kind, times, 0

    def next_failure(self) -> str:
        with self._lock:
            if not self._left:
                return ""
            self._left -= 1
            self.failed += 1
            return self._kind


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            failure = proxy.next_failure()
            if failure == "503":
                self._answer(503, {"Content-Type": "application/xml"}, UNAVAILABLE)
            elif failure == "redirect":
                self._answer(301, {"x-amz-bucket-region": "eu-west-1"}, b"")
            elif failure == "drop":
                self._end()
            else:
                upstream = HTTPConnection(urlsplit(proxy.upstream).netloc)
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                data = answer.read()
                kept = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
                if failure == "cut":
                    self._answer(answer.status, kept, data, sent=len(data) // 2)
                    self._end()
                else:
                    self._answer(answer.status, kept, data)
                upstream.close()

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

        def _answer(self, status: int, headers: dict[str, str], data: bytes, sent: int | None = None) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            length = headers.get("Content-Length", str(len(data))) if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[:sent])
                self.wfile.flush()

        def _end(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """A proxy in threads of this process."""
    proxy = FaultyProxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield proxy
    server.shutdown()
    server.server_close()
