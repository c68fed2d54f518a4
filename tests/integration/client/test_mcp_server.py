"""Against the official MCP server package, over its SSE transport."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync import Client, ToolError, ToolNotAvailable

SERVER = Path(__file__).with_name("official_server.py")


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    pytest.importorskip("mcp")
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def client(base_url: str) -> Iterator[Client]:
    with Client(base_url, agent_token="tok", timeout=20.0) as client:
        yield client


def test_a_message_goes_out(client: Client) -> None:
    """Handshake, CRLF events, a hexadecimal session id: the official server takes our messages."""
    result = client.send_message("+14155550123", "häl lo\r\nthere", "sms")
    assert result.ok
    assert result.message_sid == "SM-official"
    assert result.raw["body"] == "häl lo\nthere"


def test_tools_come_with_their_schemas(client: Client) -> None:
    """tools/list of the official server is understood."""
    tools = {tool.name: tool for tool in client.list_tools()}
    assert "idempotencyKey" in tools["comms_send_message"].properties


def test_a_failing_tool_raises(client: Client) -> None:
    """isError of the official server is a ToolError; so is an unknown tool."""
    with pytest.raises(ToolError, match="Error executing tool fail"):
        client.call_tool("fail", {})
    with pytest.raises(ToolNotAvailable):
        client.call_tool("comms_nonexistent", {})


def test_large_answers_and_arguments(client: Client) -> None:
    """A megabyte in and out."""
    text = "x" * 1_000_000
    answer = client.call_tool("echo", {"text": text})
    assert (json.loads(answer) if answer.startswith('"') else answer) == text


def test_a_ping_is_answered(client: Client) -> None:
    """The round trip is a number of seconds."""
    assert 0 < client.ping() < 20
