"""Ask a server what it offers: ``ping`` and ``tools``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from buttdial_sync.cli.command import ReportingCommand
from buttdial_sync.cli.connection import with_client
from buttdial_sync.cli.report import Report

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.models.tools import Tool


@click.command(cls=ReportingCommand)
@with_client
def ping(client: Client) -> Report:
    """Open a session and ping the server."""
    seconds = client.ping()
    return Report(
        data={"base_url": client.base_url, "seconds": seconds},
        lines=[f"{client.base_url} answered in {seconds * 1000:.1f} ms"],
    )


@click.command(cls=ReportingCommand)
@click.argument("name", required=False)
@with_client
def tools(client: Client, name: str | None) -> Report:
    """List the server's tools, or show one: NAME."""
    found = client.list_tools()
    if name is None:
        return Report(data={"tools": [_as_data(tool) for tool in found]}, lines=_table(found))
    from buttdial_sync.calls.schema import find_tool

    tool = find_tool(found, name)
    return Report(data=_as_data(tool), lines=_details(tool))


def _as_data(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": dict(tool.input_schema),
    }


def _table(found: Sequence[Tool]) -> list[str]:
    width = max((len(tool.name) for tool in found), default=0)
    summaries = [(tool.description.strip().splitlines() or [""])[0] for tool in found]
    return [
        f"{tool.name:<{width}}  {summary}".rstrip()
        for tool, summary in zip(found, summaries, strict=True)
    ]


def _details(tool: Tool) -> list[str]:
    required = tool.input_schema.get("required") or ()
    width = max((len(name) for name in tool.properties), default=0)
    arguments = [
        f"  {name:<{width}}  {_kind(schema)}{'  (required)' if name in required else ''}"
        for name, schema in tool.properties.items()
    ]
    return [tool.name, *filter(None, [tool.description.strip()]), *arguments]


def _kind(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    return str(schema.get("type", "any"))
