"""The REST side of the fake server: finds the endpoint of a request, and answers."""

from __future__ import annotations

import contextlib
import json
import threading
from difflib import get_close_matches
from typing import Any

import attrs

from buttdial_sync.testing.http_messages import (
    HttpResponse,
    Request,
    html_response,
)
from buttdial_sync.testing.request_log import ToolCall
from buttdial_sync.testing.rest_answers import ENDPOINTS as FIXED_ANSWERS
from buttdial_sync.testing.token_check import TokenCheck
from buttdial_sync.testing.tools import SEND_MESSAGE, FakeTools
from buttdial_sync.testing.waiting_queue import WaitingQueue
from buttdial_sync.testing.workspace import Refusal, RestCall, RestEndpoint, Workspace
from buttdial_sync.testing.workspace_agents import ENDPOINTS as AGENT_ENDPOINTS
from buttdial_sync.testing.workspace_orgs import ENDPOINTS as ORG_ENDPOINTS

MAX_BODY = 1024 * 1024
_SEND_PATH = "/api/v1/send-message"
_MESSAGE_KEYS = frozenset(
    {"to", "body", "channel", "subject", "html", "templateId", "templateVars", "targetGender"}
)
_CHANNELS = frozenset({"sms", "whatsapp", "email", "line"})


def message_of(request: Request) -> ToolCall | None:
    """The message that a request wants to send, as a call of the tool, or None."""
    if (request.method, request.path) != ("POST", _SEND_PATH):
        return None
    try:
        body = request.json
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    args = {key: value for key, value in body.items() if key in _MESSAGE_KEYS}
    if args.get("channel") not in _CHANNELS:
        args["channel"] = "sms"
    return ToolCall(SEND_MESSAGE, args, request.bearer)


class RestEndpoints:
    """
    The endpoints of one server.

    Attributes:
        workspace: What the accounts endpoints know.
        programmed: The endpoints that a test has programmed; they come before all others.
    """

    def __init__(
        self,
        workspace: Workspace,
        token_check: TokenCheck,
        waiting: WaitingQueue,
        tools: FakeTools,
    ) -> None:
        self.workspace = workspace
        self.programmed: list[RestEndpoint] = []
        self._tools = tools
        # Not among its own: a test's answer to a message may wait for another request.
        self._send = RestEndpoint("POST", _SEND_PATH, self._send_message, only="open-source")
        self._token_check = token_check
        self._waiting = waiting
        self._lock = threading.Lock()
        self._own = (
            RestEndpoint("GET", "/api/v1/waiting-messages", self._read_waiting, only=None),
            *(*FIXED_ANSWERS, *ORG_ENDPOINTS, *AGENT_ENDPOINTS),
        )

    def check_path(self, path: str) -> None:
        """Raise a ValueError that names the nearest endpoint, if a path is a mistyped one."""
        if not path.startswith("/"):
            raise ValueError(f"a path begins with a slash: /{path}")
        known = (self._send, *self._own)
        if not any(each.pattern.fullmatch(path) for each in known):
            near = get_close_matches(path, [each.template for each in known], n=1, cutoff=0.9)
            if near:
                raise ValueError(f"there is no endpoint {path}: did you mean {near[0]}?")

    def clear(self) -> None:
        """Forget the programmed endpoints, and what the accounts endpoints know."""
        self.programmed.clear()
        with self._lock:
            self.workspace.clear()

    def answer(self, request: Request, message: ToolCall | None = None) -> HttpResponse:
        """Answer a request, which may bring a message."""
        found = self._find(request, message)
        if found is None:
            # As the servers' web framework does.
            return html_response(404, f"Cannot {request.method} {request.path}")
        endpoint, call = found
        if not endpoint.public:
            refusal = self._token_check.refuse(request.bearer)
            if refusal is not None:
                return refusal
        if len(request.body) > MAX_BODY:
            return html_response(413, "PayloadTooLargeError: request entity too large")
        # A test's own function is called without the lock: it may wait for another request.
        own = endpoint in self._own
        with self._lock if own else contextlib.nullcontext():
            return endpoint.answer(self.workspace, call)

    def _find(
        self, request: Request, message: ToolCall | None
    ) -> tuple[RestEndpoint, RestCall] | None:
        for endpoint in (*self.programmed, self._send, *self._own):
            if endpoint.only in {None, self.workspace.dialect.name}:
                call = endpoint.match(request)
                if call is not None:
                    return endpoint, attrs.evolve(call, message=message)
        return None

    def _read_waiting(self, _workspace: Workspace, call: RestCall) -> Any:
        """Hand out waiting messages, which removes them from the queue."""
        limit = call.request.query.get("limit", "50")
        if not limit.isdigit():
            raise Refusal(400, "limit must be a number")
        query = call.request.query
        agent_id = self.workspace.agent_id_of(call.token) or query.get("agentId")
        taken = self._waiting.take(int(limit), query.get("channel"), agent_id)
        return {"messages": taken, "count": len(taken)}

    def _send_message(self, _workspace: Workspace, call: RestCall) -> Any:
        """Send a message as the tool does. It knows no keys, and any other channel is SMS."""
        for name in ("to", "body"):
            call.text(name)
        if call.message is None:
            raise Refusal(400, "Invalid JSON")
        result = self._tools.call(call.message, call.message.args)
        text = result["content"][0]["text"]
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {"error": text}
        if result.get("isError"):
            raise Refusal(_status_of(str(answer.get("error"))), answer["error"])
        return answer


def _status_of(error: str) -> int:
    if error.startswith("Compliance"):
        return 403
    return 429 if error.startswith("Rate limit") else 400
