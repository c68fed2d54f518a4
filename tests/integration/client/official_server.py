"""The official MCP server over SSE on a free port, which it prints. Run as a program by tests."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("official")


@server.tool()
def comms_send_message(
    to: str,
    body: str,
    channel: str = "whatsapp",
    idempotencyKey: str = "",  # noqa: N803
) -> dict[str, Any]:
    """Send a message."""
    return {"messageId": "SM-official", "to": to, "body": body, "channel": channel}


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("no such recipient")


@server.tool()
def echo(text: str) -> str:
    """Say it again."""
    return text


def main() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - the tests read it
        config = uvicorn.Config(server.sse_app(), log_level="critical")
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
