"""A host on plain WSGI, ASGI and Starlette; the tests start it as a process of its own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

from buttdial_sync import Client, InboundHandler, InboundMessage, OperatorApi
from tests.unit.operator.host import Directory, FailedMessages

inbound = InboundHandler(
    whatsapp_verify_token="verify-me",
    whatsapp_webhook_secret="app-secret",
    allow_unsigned=["butt-dial"],
)


@inbound.on_message
def write_down(message: InboundMessage) -> None:
    with Path(os.environ["RECEIVED"]).open("a", encoding="utf-8") as received:
        thread = threading.current_thread() is threading.main_thread()
        received.write(json.dumps([message.text, message.source, thread]) + "\n")


def may_operate(surroundings: Mapping[str, Any]) -> bool:
    """Let in who knows the token: from WSGI's environ, or from ASGI's scope."""
    headers = dict(surroundings.get("headers", ()))
    given = headers.get(b"authorization") or surroundings.get("HTTP_AUTHORIZATION", "").encode()
    return bool(given == b"Bearer of-the-operators")


operator = OperatorApi(Client.from_env(), Directory(), FailedMessages())
wsgi = inbound.wsgi()
wsgi_operator = operator.wsgi(may_operate)
asgi = inbound.asgi()
mounted = Starlette(
    routes=[
        Mount("/hooks", app=inbound.asgi()),
        Mount("/operator", app=operator.asgi(may_operate)),
    ]
)
