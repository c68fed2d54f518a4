"""The official MCP client against the fake server's socket face."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.dialects import DialectName
from tests.fakes import client_answers

Session = Any


@asynccontextmanager
async def official(loopback: LoopbackServer) -> AsyncIterator[Session]:
    """Open a session with the official client, as the dialect wants it."""
    query = "?token=t" if loopback.fake.dialect == "open-source" else ""
    url = f"{loopback.base_url}/sse{query}"
    with anyio.fail_after(20):
        async with (
            sse_client(url, headers={"Authorization": "Bearer t"}) as (read, write),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            yield session


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_official_client_sends(dialect: DialectName) -> None:
    """The official client shakes hands, pings, lists all tools and sends a message."""
    fake = FakeButtDialServer(dialect=dialect)

    async def run(loopback: LoopbackServer) -> Any:
        async with official(loopback) as session:
            await session.send_ping()
            tools = await session.list_tools()
            assert "comms_send_message" in {tool.name for tool in tools.tools}
            return await session.call_tool("comms_send_message", {"to": "+1", "body": "hi"})

    with fake.listen() as loopback:
        result = anyio.run(run, loopback)
    sent = json.loads(result.content[0].text)
    assert sent["messageId" if dialect == "hosted" else "externalId"].startswith("SM")
    assert [message.body for message in fake.delivered] == ["hi"]


def test_official_client_reports_a_failure() -> None:
    """A failed send is a result with ``isError`` for the official client too."""
    fake = FakeButtDialServer()
    fake.on_send(error="No sender", code="NO_CHANNEL_ASSIGNED")

    async def run(loopback: LoopbackServer) -> Any:
        async with official(loopback) as session:
            return await session.call_tool("comms_send_message", {"to": "+1", "body": "hi"})

    with fake.listen() as loopback:
        result = anyio.run(run, loopback)
    dumped = result.model_dump(by_alias=True)
    assert dumped["isError"] is True
    assert json.loads(result.content[0].text)["code"] == "NO_CHANNEL_ASSIGNED"


def test_official_client_answers_what_the_server_asks() -> None:
    """The official client answers the server's own ``ping`` with the id 0."""
    fake = FakeButtDialServer()

    async def run(loopback: LoopbackServer) -> None:
        async with official(loopback) as session:
            fake.ask("ping")
            await session.send_ping()
            answered = await anyio.to_thread.run_sync(
                lambda: fake.wait_for(lambda: client_answers(fake))
            )
            assert answered

    with fake.listen() as loopback:
        anyio.run(run, loopback)
    assert client_answers(fake) == [{"jsonrpc": "2.0", "id": 0, "result": {}}]
