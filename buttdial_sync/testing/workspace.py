"""What the accounts endpoints know: organisations, agents, challenges; and what an endpoint is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import unquote

import attrs

from buttdial_sync.testing.dialects import Dialect, DialectName
from buttdial_sync.testing.http_messages import HttpResponse, Request, json_response
from buttdial_sync.testing.request_log import ToolCall
from buttdial_sync.testing.token_check import TokenCheck

OTP = "123456"
"""The passcode that every challenge expects."""

TERMS_VERSION = "2026-01"
"""The version of the terms that ``accept_onboarding`` has to name."""


_OLD_TOKEN_LASTS = timedelta(seconds=30)


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a mistake of ours
    """An endpoint's "no"."""

    def __init__(self, status: int, error: str, code: str | None = None, **extra: Any) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, **({} if code is None else {"code": code}), **extra}


@attrs.define(eq=False)
class Org:
    """A workspace as the server keeps it."""

    id: str
    name: str
    owner_email: str
    created_at: str
    status: Literal["pending", "verified"] = "pending"
    verified_at: str | None = None
    poll_token: str = attrs.field(default="", repr=False)
    webhook_secret: str | None = attrs.field(default=None, repr=False)
    team_token: str | None = attrs.field(default=None, repr=False)
    phone: str | None = None


@attrs.define(eq=False)
class WorkspaceAgent:
    """An agent as the server keeps it."""

    id: str
    name: str
    created_at: str
    status: str = "active"
    tokens: list[tuple[str, str]] = attrs.field(factory=list, repr=False)
    channels: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    limits: dict[str, Any] = attrs.field(factory=dict)
    billing: dict[str, Any] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Challenge:
    """A passcode that somebody has to type."""

    org: Org
    purpose: str
    phone: str
    attempts: int = 0


class Workspace:
    """
    The state behind the accounts endpoints, all in memory.

    Where any token is good, a token that no workspace has stands for a workspace of its own.

    Attributes:
        terms_required: Whether ``verify`` wants the terms accepted first.
        agent_ids: The agents of tokens that no agent here was given.
        super_admin_tokens: Team tokens that may abandon any workspace.
    """

    def __init__(
        self, dialect: Dialect, token_check: TokenCheck, clock: Callable[[], datetime]
    ) -> None:
        self.dialect = dialect
        self.token_check = token_check
        self.agent_ids: dict[str, str] = {}
        self._clock = clock
        self._token_numbers = itertools.count(1)
        self.clear()

    def clear(self) -> None:
        """Forget everything; tokens stay good."""
        self._numbers = itertools.count(1)
        self.terms_required = False
        self.orgs: dict[str, Org] = {}
        self.agents: dict[str, WorkspaceAgent] = {}
        self.challenges: dict[str, Challenge] = {}
        self.onboarding: dict[str, Org] = {}
        self.nonces: set[str] = set()
        self.kept: dict[tuple[str, str], Any] = {}
        self.super_admin_tokens: set[str] = set()

    @property
    def now(self) -> str:
        """The time, as the servers write it."""
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def seconds(self) -> float:
        """The time in unix seconds."""
        return self._clock().timestamp()

    def fresh(self, prefix: str) -> str:
        """Make an id."""
        return f"{prefix}-{next(self._numbers)}"

    def new_token(self, prefix: str) -> str:
        """Make a token that is good from now on."""
        token = f"{prefix}-token-{next(self._token_numbers)}"
        self.token_check.allow(token)
        return token

    def verification_token(self, org_id: str) -> str:
        """Return the token of the link in a workspace's mail."""
        return f"verify-{self.orgs[org_id].id}"

    def org(self, org_id: str) -> Org:
        """Find a workspace."""
        if org_id not in self.orgs:
            raise Refusal(404, "Organization not found")
        return self.orgs[org_id]

    def org_of(self, token: str | None) -> Org:
        """Find the workspace of a token; one that is new here gets a workspace of its own."""
        for org in self.orgs.values():
            if org.team_token == token:
                return org
        org = Org(self.fresh("org"), "Example", "owner@example.com", self.now, "verified")
        org.verified_at, org.team_token = org.created_at, token
        return self.orgs.setdefault(org.id, org)

    def agent(self, agent_id: str) -> WorkspaceAgent:
        """Find an agent."""
        if agent_id not in self.agents:
            raise Refusal(404, f'Agent "{agent_id}" not found')
        return self.agents[agent_id]

    def agent_id_of(self, token: str | None) -> str | None:
        """Find the agent of a token; None if it is not known whose it is."""
        made = (each.id for each in list(self.agents.values()) if token in dict(each.tokens))
        return next(made, self.agent_ids.get(token or ""))

    def rotate(self, token: str | None) -> str:
        """Make a token for the agent of another one, which ends a little later."""
        fresh = self.new_token("agent")
        if token is None:
            return fresh
        self.token_check.revoke(token, _OLD_TOKEN_LASTS)
        for agent in list(self.agents.values()):
            if token in dict(agent.tokens):
                agent.tokens.append((fresh, self.now))
        if token in self.agent_ids:
            self.agent_ids[fresh] = self.agent_ids[token]
        return fresh

    def new_agent_token(self, agent: WorkspaceAgent) -> str:
        """Give an agent a token; its older ones are revoked."""
        for token, _ in agent.tokens:
            self.token_check.revoke(token)
        agent.tokens[:] = [(self.new_token("agent"), self.now)]
        return agent.tokens[0][0]


@attrs.frozen
class RestCall:
    """
    A request at an endpoint, taken apart.

    Attributes:
        request: The request.
        params: The parts of its path.
        message: The message that it wants to send, if it does.
    """

    request: Request
    params: Mapping[str, str]
    message: ToolCall | None = None

    @property
    def token(self) -> str | None:
        """The credential."""
        return self.request.bearer

    @property
    def body(self) -> Mapping[str, Any]:
        """The body, decoded; empty if there is none."""
        try:
            body: Mapping[str, Any] = self.request.json if self.request.body else {}
        except ValueError:
            raise Refusal(400, "Invalid JSON") from None
        return body

    def text(self, *names: str) -> str:
        """Return the first of these of the body; the servers refuse requests without it."""
        found = next((self.body[name] for name in names if self.body.get(name)), None)
        if not isinstance(found, str):
            raise Refusal(400, f"Missing required field '{names[0]}'.")
        return found


@attrs.frozen
class RestEndpoint:
    """
    A row of the table of endpoints.

    Attributes:
        method: The HTTP method.
        template: The path; ``{name}`` stands for one part of it.
        act: Does it, and returns the JSON value of the answer; or raises `Refusal`.
        public: Whether no token is asked for.
        only: Which server has it; None for both.
        status: Of the answer.
        headers: Further headers of the answer.
    """

    method: str
    template: str
    act: Callable[[Workspace, RestCall], Any]
    public: bool = attrs.field(default=False, kw_only=True)
    only: DialectName | None = attrs.field(default="hosted", kw_only=True)
    status: int = attrs.field(default=200, kw_only=True)
    headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    pattern: re.Pattern[str] = attrs.field(init=False, repr=False)

    @pattern.default
    def _compile(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.template)))

    def match(self, request: Request) -> RestCall | None:
        """The call if the request is for this endpoint, else None."""
        found = self.pattern.fullmatch(request.path) if request.method == self.method else None
        if found is None:
            return None
        return RestCall(request, {key: unquote(part) for key, part in found.groupdict().items()})

    def answer(self, workspace: Workspace, call: RestCall) -> HttpResponse:
        """Answer a call that may enter."""
        try:
            return json_response(self.status, self.act(workspace, call), self.headers)
        except Refusal as refusal:
            return json_response(refusal.status, refusal.body)
