"""
The servers, each in a process of its own: ``python -m tests.benchmarks.servers fake``.

It says its URL, and answers commands on its standard input as the workers do.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any, Protocol

from tests.benchmarks.contender import TOOL
from tests.fakes import client_answers

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
_ANSWER_SECONDS = 30.0


class Server(Protocol):
    """A server that counts."""

    url: str

    def counts(self) -> dict[str, Any]:
        """Return how many requests and connections there were so far."""

    def ping_clients(self) -> dict[str, Any]:
        """Ask the clients for a sign of life, and return how many gave it."""

    def forget(self) -> dict[str, Any]:
        """Drop what was recorded, so that a long run does not fill the memory."""


class Fake:
    """The embedded server, over a socket."""

    def __init__(self) -> None:
        from buttdial_sync.testing import FakeButtDialServer

        self._fake = FakeButtDialServer()
        self._forgotten = 0
        self.url = self._fake.listen().base_url

    def counts(self) -> dict[str, Any]:
        """Return how many requests and connections there were so far."""
        requests = self._forgotten + len(self._fake.requests)
        return {"requests": requests, "connections": self._fake.connections}

    def ping_clients(self) -> dict[str, Any]:
        """Ask the clients for a sign of life, and return how many gave it."""
        asked = self._fake.ask("ping")
        self._fake.wait_for(lambda: len(client_answers(self._fake)) >= asked, _ANSWER_SECONDS)
        return {"answered": len(client_answers(self._fake))}

    def forget(self) -> dict[str, Any]:
        """Drop what was recorded."""
        self._forgotten += len(self._fake.requests)
        self._fake.clear()
        return {}


class Official:
    """The ``mcp`` package's server over SSE, as it comes, under uvicorn."""

    def __init__(self) -> None:
        import uvicorn
        from mcp.server.mcpserver import MCPServer

        server = MCPServer("benchmark", log_level="WARNING")
        numbers = count(1)

        # Structured output would have the official client check each answer against a schema.
        @server.tool(name=TOOL, structured_output=False)
        def send_message(
            to: str,
            body: str,
            channel: str = "whatsapp",
        ) -> str:
            return json.dumps({"messageId": f"SM{next(numbers)}"})

        self._app: App = server.sse_app()
        self._requests = 0
        self._clients: set[tuple[str, int]] = set()
        # asyncio turns Nagle's algorithm off only where the protocol is named, as it is in a socket
        # that uvicorn makes itself; else each answer stalls for 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        runner = uvicorn.Server(
            uvicorn.Config(self._counting, interface="asgi3", log_level="warning")
        )
        threading.Thread(target=runner.run, args=([listener],), daemon=True).start()

    def counts(self) -> dict[str, Any]:
        """Return how many requests and connections there were so far."""
        return {"requests": self._requests, "connections": len(self._clients)}

    def ping_clients(self) -> dict[str, Any]:
        """Not measured with this server."""
        raise NotImplementedError

    def forget(self) -> dict[str, Any]:
        """Do nothing: it records no messages."""
        return {}

    async def _counting(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "http":
            self._requests += 1
            self._clients.add(tuple(scope["client"]))
        await self._app(scope, receive, send)


class Happy:
    """The fake Happy server, with 100 sessions."""

    def __init__(self) -> None:
        from buttdial_sync.testing.happy_server import FakeHappyServer
        from tests.benchmarks.happy import SECRET, TOKEN

        self._fake = FakeHappyServer(token=TOKEN, secret=SECRET)
        for _ in range(100):
            self._fake.add_session()
        for process in self._fake.store.sessions:
            self._fake.process(process).leave()
        self.url = self._fake.server_url

    def counts(self) -> dict[str, Any]:
        """Return how many requests and connections there were so far."""
        return {"requests": len(self._fake.requests), "connections": self._fake.connections}

    def ping_clients(self) -> dict[str, Any]:
        """Not measured with this server."""
        raise NotImplementedError

    def forget(self) -> dict[str, Any]:
        """Drop what was recorded."""
        self._fake.requests.clear()
        return {}


_SERVERS: dict[str, Callable[[], Server]] = {"fake": Fake, "happy": Happy, "mcp": Official}


def main(name: str) -> None:
    """Serve until the standard input ends."""
    server = _SERVERS[name]()
    _say({"url": server.url})
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        _say(getattr(server, command)(*arguments))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
