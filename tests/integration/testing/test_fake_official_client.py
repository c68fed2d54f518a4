"""The official MCP client against the fake server's socket face."""

from __future__ import annotations

import json

import anyio
import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client

from buttdial_sync.testing import FakeButtDialServer


@pytest.mark.parametrize("line_ending", ["\n", "\r\n"])
@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_official_client(dialect, line_ending) -> None:
    pass
