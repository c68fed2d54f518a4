"""
The floor: what a blocking client on ``requests`` can't go below.

A bare ``Session.post`` and a thread that reads the stream. It keeps no deadline, notices no lost
stream, checks nothing and tries nothing again.
"""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import requests
from sseclient import SSEClient

from tests.benchmarks.contender import BODY, CHANNEL, TO, TOKEN, TOOL

_ANSWER_SECONDS = 30.0
_READ_SIZE = 65536


class Floor:
    """A loop of ``requests.Session.post`` with a reader thread on the stream."""

    trust_env = True

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = self.trust_env
        self._session.headers["Authorization"] = f"Bearer {TOKEN}"
        self._ids = itertools.count(1)
        self._answers: dict[int, SimpleQueue[Any]] = {}
        self._endpoint = ""

    def send(self, count: int) -> None:
        """Send messages, one after the other."""
        if not self._endpoint:
            self._open()
        for _ in range(count):
            message = {"to": TO, "body": BODY, "channel": CHANNEL, "idempotencyKey": _key()}
            result = self._ask("tools/call", {"name": TOOL, "arguments": message})
            assert json.loads(result["content"][0]["text"])["messageId"]

    def crowd(self, size: int, each: int) -> None:
        """Not measured for the floor."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the connections to the end of the process: its reader can't be woken."""

    def _open(self) -> None:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        stream = self._session.get(f"{self._base_url}/sse", headers=headers, stream=True)
        stream.raise_for_status()
        endpoints: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._read, args=(stream, endpoints), daemon=True).start()
        self._endpoint = self._base_url + endpoints.get(timeout=_ANSWER_SECONDS)
        self._ask(
            "initialize",
            {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "floor", "version": "0"},
            },
        )
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        number = next(self._ids)
        answers = self._answers[number] = SimpleQueue()
        self._post({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answer = answers.get(timeout=_ANSWER_SECONDS)
        del self._answers[number]
        return answer["result"]

    def _post(self, message: dict[str, Any]) -> None:
        self._session.post(self._endpoint, json=message).raise_for_status()

    def _read(self, stream: requests.Response, endpoints: SimpleQueue[str]) -> None:
        for event in SSEClient(_chunks(stream)).events():
            if event.event == "endpoint":
                endpoints.put(event.data)
            else:
                answer = json.loads(event.data)
                self._answers[answer["id"]].put(answer)


class FloorWithoutEnvironment(Floor):
    """The same, but the session does not look for proxies in the environment at each post."""

    trust_env = False


def _chunks(stream: requests.Response) -> Iterator[bytes]:
    while chunk := stream.raw.read1(_READ_SIZE):
        yield chunk


def _key() -> str:
    return str(uuid.uuid4())
