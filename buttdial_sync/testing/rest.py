"""
The REST endpoints, as a table.

To add one, write a handler (it gets the server's `RestState`, the path's parameters and the
request) and put a row into `ROUTES`; one of the accounts goes into a table of `ENDPOINTS`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import attrs

from buttdial_sync.testing.agent_endpoints import ENDPOINTS as OWN_ENDPOINTS
from buttdial_sync.testing.dialects import Dialect, DialectName
from buttdial_sync.testing.exchange import Answer, Request, html_answer, json_answer
from buttdial_sync.testing.workspace import AccountsEndpoint, Workspace
from buttdial_sync.testing.workspace_agents import ENDPOINTS as AGENT_ENDPOINTS
from buttdial_sync.testing.workspace_orgs import ENDPOINTS as ORG_ENDPOINTS

MAX_BODY = 1024 * 1024


@attrs.define(eq=False)
class RestState:
    """What the REST endpoints know: the server's data behind them."""

    dialect: Dialect
    workspace: Workspace
    lock: threading.Lock = attrs.field(factory=threading.Lock)
    waiting: list[dict[str, Any]] = attrs.field(factory=list)


Params = Mapping[str, str]
Handler = Callable[[RestState, Params, Request], Answer]


@attrs.frozen
class Route:
    """
    One endpoint.

    Attributes:
        method: The HTTP method.
        template: The path; ``{name}`` stands for one part of it.
        handler: What answers.
        public: Whether no token is asked for.
        only: Which server has it; None for both.
    """

    method: str
    template: str
    handler: Handler
    public: bool = False
    only: DialectName | None = None
    pattern: re.Pattern[str] = attrs.field(init=False, repr=False)

    @pattern.default
    def _compile(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.template)))

    def match(self, request: Request) -> Params | None:
        """The path's parameters if the request is for this endpoint, else None."""
        if request.method != self.method:
            return None
        found = self.pattern.fullmatch(request.path)
        return None if found is None else {k: unquote(v) for k, v in found.groupdict().items()}


def read_waiting(state: RestState, _params: Params, request: Request) -> Answer:
    """Hand out waiting messages, which removes them from the queue."""
    limit = request.query.get("limit", "50")
    if not limit.isdigit():
        return json_answer(400, {"error": "limit must be a number"})
    channel = request.query.get("channel")
    with state.lock:
        fitting = [each for each in state.waiting if channel in {None, each.get("channel")}]
        taken = fitting[: int(limit)]
        state.waiting[:] = [each for each in state.waiting if not any(each is t for t in taken)]
    return json_answer(200, {"messages": taken, "count": len(taken)})


def _accounts_route(endpoint: AccountsEndpoint) -> Route:
    def answer(state: RestState, params: Params, request: Request) -> Answer:
        with state.lock:
            return endpoint.answer(state.workspace, params, request)

    return Route(endpoint.method, endpoint.template, answer, endpoint.public, endpoint.only)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/v1/waiting-messages", read_waiting),
    *map(_accounts_route, (*OWN_ENDPOINTS, *ORG_ENDPOINTS, *AGENT_ENDPOINTS)),
)


class Rest:
    """Finds who answers a REST request."""

    def __init__(self, dialect: Dialect, workspace: Workspace) -> None:
        self.state = RestState(dialect, workspace)
        self._programmed: list[Route] = []

    def program(self, route: Route) -> None:
        """Put an endpoint before all others."""
        self._programmed.insert(0, route)

    def clear(self) -> None:
        """Forget the programmed endpoints, and what the accounts endpoints know."""
        self._programmed.clear()
        with self.state.lock:
            self.state.workspace.clear()

    def find(self, request: Request) -> tuple[Route, Params] | None:
        """Find the endpoint of a request."""
        for route in (*self._programmed, *ROUTES):
            if route.only not in {None, self.state.dialect.name}:
                continue
            params = route.match(request)
            if params is not None:
                return route, params
        return None

    def answer(self, route: Route, params: Params, request: Request) -> Answer:
        """Answer a request that may enter."""
        if len(request.body) > MAX_BODY:
            return html_answer(413, "PayloadTooLargeError: request entity too large")
        return route.handler(self.state, params, request)


def unknown_endpoint(request: Request) -> Answer:
    """Answer as the servers' web framework does when it knows no such endpoint."""
    return html_answer(404, f"Cannot {request.method} {request.path}")
