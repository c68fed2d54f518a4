"""A client of one stream, made of nothing but ``requests``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import requests

HEADERS = {"Authorization": "Bearer t", "Accept-Encoding": "identity"}


class Wire:
    """Opens a stream, and reads its events in the thread that asks for them."""

    def __init__(self, base_url: str, *, query: bool = False, token: str = "t") -> None:
        self.headers = {**HEADERS, "Authorization": f"Bearer {token}"}
        self.session = requests.Session()
        self.stream = self.session.get(
            f"{base_url}/sse",
            params={"token": token} if query else {},
            headers=self.headers,
            stream=True,
            timeout=5,
        )
        assert self.stream.raw is not None
        self.raw = self.stream.raw
        self.events = self._events()
        self.endpoint = ""
        if self.stream.headers["Content-Type"] == "text/event-stream":
            self.endpoint_bytes = next(self.events)
            self.endpoint = urljoin(f"{base_url}/sse", data_of(self.endpoint_bytes))

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.stream.close()
        self.session.close()

    def _events(self) -> Iterator[bytes]:
        pending = b""
        while True:
            for end in (b"\r\n\r\n", b"\n\n"):
                while end in pending:
                    event, pending = pending.split(end, 1)
                    yield event + end
            data = self.raw.read1(65536)
            if not data:
                return
            pending += data

    def rest(self) -> list[bytes]:
        """Everything until the stream's end."""
        return list(self.events)

    def next(self) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = json.loads(data_of(next(self.events)))
        return message

    def post(self, message: object) -> requests.Response:
        return self.session.post(self.endpoint, json=message, headers=self.headers, timeout=5)

    def request(self, method: str, params: object = None, id: int = 1) -> dict[str, Any]:  # noqa: A002
        """Post a request and return the next message on the stream."""
        answer = self.post({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}})
        assert (answer.status_code, answer.text) == (202, "Accepted")
        return self.next()

    def greet(self) -> Wire:
        """Do the handshake."""
        self.request("initialize", {"protocolVersion": "2025-11-25"})
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def post_call(self, tool: str = "comms_send_message", **args: Any) -> requests.Response:
        params = {"name": tool, "arguments": args}
        return self.post({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": params})

    def call(self, tool: str = "comms_send_message", **args: Any) -> dict[str, Any]:
        """Call a tool and return the result."""
        message = self.request("tools/call", {"name": tool, "arguments": args})
        result: dict[str, Any] = message["result"]
        return result

    def send(self, **args: Any) -> dict[str, Any]:
        """Send a message and return the JSON of the result's text."""
        return content(self.call(**{"to": "+1555", "body": "hi", **args}))


def data_of(event: bytes) -> str:
    """The data of an event's bytes."""
    lines = event.decode().splitlines()
    return "\n".join(line[6:] for line in lines if line.startswith("data: "))


def content(result: dict[str, Any]) -> dict[str, Any]:
    """The JSON in a result's text."""
    value: dict[str, Any] = json.loads(result["content"][0]["text"])
    return value
