"""A WSGI application with one client, made before the workers are forked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from buttdial_sync import Client

client = Client.from_env()
if os.environ.get("WARM"):
    client.send_message("+1", "from the parent")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Send the path as a message; answer with its id."""
    result = client.send_message("+1", environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [(result.message_sid or repr(result)).encode()]
