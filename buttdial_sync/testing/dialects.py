"""The two servers that a user can meet, and what they do differently."""

from __future__ import annotations

import json
import uuid
from typing import Literal

import attrs

from buttdial_sync.testing.http_messages import HttpResponse, json_response, text_response

DialectName = Literal["hosted", "open-source"]
TokenIn = Literal["header", "query"]


@attrs.frozen
class Dialect:
    """
    The ways of one server.

    Attributes:
        name: Its name.
        token_in: Where it looks for the token of ``GET /sse``.
        messages_path: Where the endpoint event points to.
        session_key: The query parameter that holds the session's id.
        indent: How its JSON texts are indented.
        server_name: What it calls itself in the answer to ``initialize``.
        server_version: Its version there.
    """

    name: DialectName
    token_in: TokenIn
    messages_path: str
    session_key: str
    indent: int | None
    server_name: str
    server_version: str

    @property
    def hosted(self) -> bool:
        """Whether this is the hosted service."""
        return self.name == "hosted"

    def new_session_id(self) -> str:
        """Make a session's id in the form that this server uses."""
        fresh = uuid.uuid4()
        return fresh.hex if self.hosted else str(fresh)

    def unknown_session(self) -> HttpResponse:
        """Answer a POST to a session that is gone."""
        if self.hosted:
            return text_response(404, "Could not find session")
        return json_response(400, {"error": "Unknown session"})

    def text(self, value: object) -> str:
        """Write a tool's answer as this server does."""
        return json.dumps(value, indent=self.indent)


HOSTED = Dialect(
    name="hosted",
    token_in="header",  # noqa: S106 - a place, not a password
    messages_path="/messages/",
    session_key="session_id",
    indent=None,
    server_name="butt-dial",
    server_version="0.9.0",
)
OPEN_SOURCE = Dialect(
    name="open-source",
    token_in="query",  # noqa: S106 - a place, not a password
    messages_path="/messages",
    session_key="sessionId",
    indent=2,
    server_name="butt-dial-mcp",
    server_version="0.1.0",
)

_DIALECTS = {dialect.name: dialect for dialect in (HOSTED, OPEN_SOURCE)}


def find_dialect(name: DialectName) -> Dialect:
    """
    Find a dialect by its name.

    Raises:
        ValueError: There is no such dialect.
    """
    try:
        return _DIALECTS[name]
    except KeyError:
        msg = f"unknown dialect {name!r}: one of {sorted(_DIALECTS)}"
        raise ValueError(msg) from None
