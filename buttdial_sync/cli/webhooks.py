"""A small web server that receives webhooks while a command runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from buttdial_sync.errors import ConfigError
from buttdial_sync.inbound.handler import InboundResponse

logger = logging.getLogger("buttdial_sync.cli")

Answer = Callable[[bytes], InboundResponse]

_SECONDS_FOR_A_REQUEST = 10.0
_MOST_BYTES = 1024 * 1024


@contextmanager
def receiving(host: str, port: int, path: str, answer: Answer) -> Iterator[int]:
    """
    Receive webhooks until the block ends.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        path: Posts to other paths are refused; to any path when empty.
        answer: Gets each body.

    Yields:
        The port.

    Raises:
        ConfigError: The port is not available.
    """
    try:
        server = _Server((host, port), _Request)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}", remediation="Give another --webhook-port."
        ) from None
    server.path, server.answer = path, answer
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.name = "buttdial-sync-webhooks"
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_SECONDS_FOR_A_REQUEST)


class _Server(ThreadingTCPServer):
    # Not HTTPServer: that one looks up its own host name, which can take long.
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    path: str
    answer: Answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a webhook's connection broke", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS_FOR_A_REQUEST
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        response = self._response()
        content = response.body.encode()
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _response(self) -> InboundResponse:
        if self.server.path and self.path.partition("?")[0] != self.server.path:
            return InboundResponse(404)
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            return InboundResponse(411)
        if len(length) > len(str(_MOST_BYTES)) or int(length) > _MOST_BYTES:
            return InboundResponse(413)
        return self.server.answer(self.rfile.read(int(length)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        # Without the request line: its path may be the secret part of a callback URL.
        logger.debug("a webhook was answered")
