"""The overview: how the connection is, and what the host counted."""

from __future__ import annotations

import logging
from typing import Any, Literal

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import ButtDialError
from buttdial_sync.operator.directory import AgentDirectory
from buttdial_sync.operator.rows import json_fields
from buttdial_sync.retry.repository import AdminFailedMessageRepository

logger = logging.getLogger("buttdial_sync.operator")

ConnectionStatus = Literal["connected", "degraded", "disconnected"]


def overview(
    client: AgentView,
    directory: AgentDirectory,
    failed_messages: AdminFailedMessageRepository,
    timeout: float,
) -> dict[str, Any]:
    """
    Return the overview.

    Args:
        client: Asked for its tools, for a sign of life and for its costs.
        directory: Gives the counts.
        failed_messages: Gives the length of the queue.
        timeout: Seconds that the server gets for each question.
    """
    status, tool_count = _connection(client, timeout)
    return {
        "connection_status": status,
        "server_url": client.base_url,
        "tool_count": tool_count,
        **json_fields(directory.overview_snapshot()),
        "failed_queue_size": failed_messages.count_pending(),
        # Do not ask again if the server was not reached or refused the token: see the lockout.
        "cost_summary": None if status == "disconnected" else _costs(client),
        "last_ping": "ok" if status == "connected" else None,
    }


def _connection(client: AgentView, timeout: float) -> tuple[ConnectionStatus, int]:
    try:
        tools = client.list_tools(timeout=timeout)
    except ButtDialError as error:
        logger.warning("the overview found no connection: %s", error.message)
        return "disconnected", 0
    if not tools:
        return "disconnected", 0
    try:
        client.ping(timeout=timeout)
    except ButtDialError as error:
        logger.warning("the overview got no answer to a ping: %s", error.message)
        return "degraded", len(tools)
    return "connected", len(tools)


def _costs(client: AgentView) -> Any:
    try:
        return client.billing.usage().raw
    except ButtDialError as error:
        logger.info("the overview has no costs: %s", error.message)
        return None
