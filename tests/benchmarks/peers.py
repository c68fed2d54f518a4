"""The peers: ``butt-dial-sdk`` and the official ``mcp`` client with one session held open."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from importlib import import_module
from typing import Any

from tests.benchmarks.contender import BODY, CHANNEL, TO, TOKEN, TOOL


class AsyncContender(ABC):
    """
    A contender with an event loop of its own, which lives as long as it does.

    That is the best case for the peers: a host without a loop pays for starting one as well.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._loop = asyncio.new_event_loop()

    @abstractmethod
    async def one(self) -> None:
        """Send a message."""

    def send(self, count: int) -> None:
        """Send messages, one after the other."""
        self._run(self._several(count))

    def crowd(self, size: int, each: int) -> None:
        """Send from so many tasks at once."""

        async def everybody() -> None:
            await asyncio.gather(*(self._several(each) for _ in range(size)))

        self._run(everybody())

    def close(self) -> None:
        """End the loop."""
        self._loop.close()

    async def _several(self, count: int) -> None:
        for _ in range(count):
            await self.one()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(work)


class Sdk(AsyncContender):
    """``butt-dial-sdk``: a stream and a handshake for each message."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        # Not installed where the types are checked.
        agent_class = import_module("buttdial").Agent
        self._agent = agent_class(base_url, agent_id="benchmark", agent_token=TOKEN)

    async def one(self) -> None:
        """Send a message."""
        result = await self._agent.send_message(TO, BODY, CHANNEL)
        assert result.message_sid, result


class HeldSession(AsyncContender):
    """The official client, its session opened once."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self._session: Any = None
        self._closed = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None

    async def one(self) -> None:
        """Send a message."""
        if self._session is None:
            await self._open()
        message = {"to": TO, "body": BODY, "channel": CHANNEL}
        result = await self._session.call_tool(TOOL, message)
        assert json.loads(result.content[0].text)["messageId"]

    def close(self) -> None:
        """End the session and the loop."""
        if self._holder is not None:
            self._closed.set()
            self._loop.run_until_complete(self._holder)
        super().close()

    async def _open(self) -> None:
        opened: asyncio.Future[Any] = self._loop.create_future()
        # One task for its whole life: anyio lets only the task that entered a scope leave it.
        self._holder = asyncio.create_task(self._hold(opened))
        self._session = await opened

    async def _hold(self, opened: asyncio.Future[Any]) -> None:
        from mcp import ClientSession
        from mcp.client.sse import sse_client

        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            sse_client(f"{self._base_url}/sse", headers=headers) as (read, write),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            opened.set_result(session)
            await self._closed.wait()
