"""A WSGI application with one Happy client, made before the workers are forked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from buttdial_sync.happy import HappyClient

client = HappyClient.from_env()
if os.environ.get("WARM"):
    client.run_prompt(os.environ["SESSION"], "from the parent")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Give the path to an agent of its own; answer with what it says."""
    prompt = environ["PATH_INFO"].strip("/")
    result = client.run_task("machine-1", "/repo", prompt)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [result.text.encode()]
