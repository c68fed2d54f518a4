"""The endpoints, and the table that finds them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any, TypeAlias, TypeVar

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import AgentNotFound, AgentNotProvisioned, ArgumentTypeError
from buttdial_sync.inbound.inbox import INBOX_STATUSES, Inbox
from buttdial_sync.inbound.web import (
    AsgiApplication,
    Request,
    Response,
    WsgiApplication,
    asgi_application,
    wsgi_application,
)
from buttdial_sync.models.failed import FAILED_STATUSES
from buttdial_sync.models.operator import AgentInfo
from buttdial_sync.operator.csrf import INTENT_HEADER, is_meant
from buttdial_sync.operator.directory import AgentDirectory
from buttdial_sync.operator.overview import overview
from buttdial_sync.operator.rows import (
    failed_message_row,
    figures_row,
    json_fields,
    stored_event_row,
)
from buttdial_sync.retry.repository import AdminFailedMessageRepository
from buttdial_sync.retry.table import TableRepository

S = TypeVar("S", bound=str)
P = TypeVar("P", bound=Callable[..., bool])
Permission: TypeAlias = Callable[[Mapping[str, Any]], bool]

_MOST_ROWS = 1000
_MOST_CHANGED = 10_000
_OPEN_STATUSES = ("dead", "pending")
NOT_MEANT = f"{INTENT_HEADER} is missing, or the request is another site's"
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_MAY_HAVE_BEEN_SENT = (
    "This message may have been sent already, or is being sent: the outcome of its last attempt is "
    "not known. even_if_sent=true sends it again: once where the server honours idempotency keys, "
    "a second time elsewhere"
)


@attrs.frozen
class OperatorResponse:
    """
    What a framework has to answer.

    Attributes:
        status: The HTTP status.
        data: The body, to be sent as JSON.
        headers: To be sent with it.
    """

    status: int
    data: Any = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict)


class _HttpError(Exception):
    """An endpoint's error answer."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.response = error_response(status, detail)


class OperatorApi:
    """
    Answers the operator endpoints. Safe to share between threads and across forks.

    :meth:`respond` does not check permissions. The caller must check them, and that a
    state-changing request does not come from another site (CSRF). Exceptions of the host's
    directory and repository are raised, except :class:`AgentNotFound` and
    :class:`AgentNotProvisioned`.

    Args:
        client: Whose connection the overview shows.
        directory: The host's agents.
        failed_messages: The host's messages that have to be sent again.
        inbox: What came in, for the endpoints ``inbox``; they are 404 without it.
        timeout: Seconds that the server gets for each question of the overview.
    """

    def __init__(
        self,
        client: AgentView,
        directory: AgentDirectory,
        failed_messages: AdminFailedMessageRepository,
        *,
        inbox: Inbox | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._client = client
        self._inbox = inbox
        self._directory = directory
        self._failed_messages = failed_messages
        self._timeout = timeout

    def respond(
        self, method: str, path: str, query: Mapping[str, str] | None = None
    ) -> OperatorResponse:
        """
        Answer a request. Calling it twice does nothing twice.

        A message that may have been sent is made due only with ``even_if_sent=true`` in the query.

        Args:
            method: ``"GET"`` or ``"POST"``; HEAD is answered as GET.
            path: Below the prefix that the host chose, decoded, as in ``"agents/7/activate"``.
            query: The query's parameters; of one that came twice, any.

        Returns:
            The answer; 404 for an unknown path or object, 405 for a wrong method, 400 for an
            agent that cannot be activated, 409 for a message that may have been sent, 422 for a
            wrong parameter.
        """
        wanted = "GET" if method == "HEAD" else method
        found = {
            row_method: (endpoint, match.groupdict().get("id", ""))
            for row_method, pattern, endpoint in _ROUTES
            if (match := pattern.fullmatch(path.strip("/")))
        }
        if not found:
            return error_response(404, "Not Found")
        if wanted not in found:
            response = error_response(405, "Method Not Allowed")
            return attrs.evolve(response, headers={"Allow": ", ".join(found)})
        endpoint, object_id = found[wanted]
        try:
            return OperatorResponse(200, endpoint(self, object_id, query or {}))
        except _HttpError as error:
            return error.response

    def wsgi(self, permission: Permission) -> WsgiApplication:
        """
        Return a WSGI application for the endpoints, to be mounted at an address of your choice.

        It answers 403 to requests without permission, and to state-changing ones without the header
        ``X-Requested-With`` or from another site (CSRF). Safe to share between threads and forks.

        Args:
            permission: Gets WSGI's environ, and returns True if the request may use the API. Any
                other value is a no.

        Raises:
            ArgumentTypeError: ``permission`` is a coroutine function.
        """
        return wsgi_application(partial(self._respond_to, check_permission(permission)), 0)

    def asgi(self, permission: Permission) -> AsgiApplication:
        """
        Return an ASGI application, as :meth:`wsgi` does, for servers on asyncio.

        Args:
            permission: Gets ASGI's scope. It may block, because it runs in a thread.

        Raises:
            ArgumentTypeError: ``permission`` is a coroutine function.
        """
        return asgi_application(partial(self._respond_to, check_permission(permission)), 0)

    def _respond_to(self, permission: Permission, request: Request) -> Response:
        # Compared with True: whatever else it returns, such as a coroutine, is not a yes.
        if permission(request.surroundings) is not True:
            answer = error_response(403, "Forbidden")
        elif not is_meant(request.method, request.headers):
            answer = error_response(403, NOT_MEANT)
        else:
            answer = self.respond(request.method, request.path, request.query)
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Response(
            status=answer.status,
            body=json.dumps(answer.data),
            headers={**headers, **answer.headers},
        )

    def _overview(self, _: str, __: Mapping[str, str]) -> Any:
        return overview(self._client, self._directory, self._failed_messages, self._timeout)

    def _agents(self, _: str, __: Mapping[str, str]) -> Any:
        return [json_fields(agent) for agent in self._directory.list_agents()]

    def _activate(self, agent_id: str, _: Mapping[str, str]) -> Any:
        return _changed(self._directory.activate, agent_id)

    def _deactivate(self, agent_id: str, _: Mapping[str, str]) -> Any:
        return _changed(self._directory.deactivate, agent_id)

    def _list_failed(self, _: str, query: Mapping[str, str]) -> Any:
        status, limit = _status(query, FAILED_STATUSES), _limit(query)
        messages = self._failed_messages.list(status=status, limit=limit)
        return [failed_message_row(message) for message in messages]

    def _retry(self, message_id: str, query: Mapping[str, str]) -> Any:
        even_if_sent = _flag(query, "even_if_sent")
        if not even_if_sent and self._may_have_been_sent(message_id):
            raise _HttpError(409, _MAY_HAVE_BEEN_SENT)
        # A repository of the published interface takes only the id, so pass the option only if it
        # is needed.
        options = {"even_if_sent": True} if even_if_sent else {}
        if not self._failed_messages.force_retry(message_id, **options):
            raise _HttpError(404, "Message not found or not pending")
        return {"queued": True, "id": message_id}

    def _may_have_been_sent(self, message_id: str) -> bool:
        """Look at the mark, where the repository can be asked; force_retry does not remove it."""
        get = getattr(self._failed_messages, "get", None)
        message = None if get is None else get(message_id)
        if message is None or message.status == "dismissed":
            return False
        return message.attempt_started_at is not None

    def _dismiss(self, message_id: str, _: Mapping[str, str]) -> Any:
        if not self._failed_messages.dismiss(message_id):
            raise _HttpError(404, "Message not found")
        return {"dismissed": True, "id": message_id}

    def _outbox(self, _: str, __: Mapping[str, str]) -> Any:
        if not isinstance(self._failed_messages, TableRepository):
            raise _HttpError(501, "This host's repository does not measure itself")
        return figures_row(self._failed_messages.figures(), self._failed_messages.paused())

    def _retry_all(self, _: str, query: Mapping[str, str]) -> Any:
        return {"queued": self._change_all("retry_all", query)}

    def _dismiss_all(self, _: str, query: Mapping[str, str]) -> Any:
        return {"dismissed": self._change_all("dismiss_all", query)}

    def _change_all(self, method: str, query: Mapping[str, str]) -> int:
        change_all = getattr(self._failed_messages, method, None)
        if change_all is None:
            raise _HttpError(501, "This host's repository cannot change many messages at once")
        count: int = change_all(
            _status(query, _OPEN_STATUSES, default=None),
            since=_since(query),
            error_like=query.get("error_like") or None,
            agent_id=query.get("agent_id"),
            even_if_sent=_flag(query, "even_if_sent"),
            dry_run=_flag(query, "dry_run"),
            at_most=_MOST_CHANGED,
        )
        return count

    def _list_inbox(self, _: str, query: Mapping[str, str]) -> Any:
        status, limit = _status(query, INBOX_STATUSES), _limit(query)
        return [stored_event_row(stored) for stored in self._known_inbox().list(status, limit)]

    def _retry_inbox(self, event_id: str, _: Mapping[str, str]) -> Any:
        if not self._known_inbox().force_retry(event_id):
            raise _HttpError(404, "Event not found, done, or being handled")
        return {"queued": True, "id": event_id}

    def _dismiss_inbox(self, event_id: str, _: Mapping[str, str]) -> Any:
        if not self._known_inbox().dismiss(event_id):
            raise _HttpError(404, "Event not found, done, or being handled")
        return {"dismissed": True, "id": event_id}

    def _known_inbox(self) -> Inbox:
        if self._inbox is None:
            raise _HttpError(404, "Not Found")
        return self._inbox


_Endpoint = Callable[[OperatorApi, str, Mapping[str, str]], Any]

_ROUTES: tuple[tuple[str, re.Pattern[str], _Endpoint], ...] = tuple(
    (method, re.compile(path.replace("{id}", "(?P<id>[^/]+)")), endpoint)
    for method, path, endpoint in (
        ("GET", "overview", OperatorApi._overview),
        ("GET", "agents", OperatorApi._agents),
        ("POST", "agents/{id}/activate", OperatorApi._activate),
        ("POST", "agents/{id}/deactivate", OperatorApi._deactivate),
        ("GET", "outbox", OperatorApi._outbox),
        ("GET", "failed-messages", OperatorApi._list_failed),
        ("POST", "failed-messages/retry", OperatorApi._retry_all),
        ("POST", "failed-messages/dismiss", OperatorApi._dismiss_all),
        ("POST", "failed-messages/{id}/retry", OperatorApi._retry),
        ("POST", "failed-messages/{id}/dismiss", OperatorApi._dismiss),
        ("GET", "inbox", OperatorApi._list_inbox),
        ("POST", "inbox/{id}/retry", OperatorApi._retry_inbox),
        ("POST", "inbox/{id}/dismiss", OperatorApi._dismiss_inbox),
    )
)


def error_response(status: int, detail: Any) -> OperatorResponse:
    """Return an error in the form that operators' pages know."""
    return OperatorResponse(status, {"detail": detail})


def _status(query: Mapping[str, str], known: Sequence[S], default: str | None = "pending") -> S:
    wanted = query.get("status", default)
    for status in known:
        if status == wanted:
            return status
    raise _HttpError(422, _wrong("status", f"must be one of {', '.join(known)}"))


def _flag(query: Mapping[str, str], name: str) -> bool:
    flag = _FLAGS.get(query.get(name, "false").lower())
    if flag is None:
        raise _HttpError(422, _wrong(name, "must be true or false"))
    return flag


def _since(query: Mapping[str, str]) -> datetime | None:
    text = query.get("since")
    if not text:
        return None
    try:
        # Python 3.10 does not know Z.
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is not None:
            return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):  # in UTC before the year 1, too
        pass
    raise _HttpError(422, _wrong("since", "must be a time with a zone, in ISO 8601"))


def _limit(query: Mapping[str, str]) -> int:
    limit = query.get("limit", "50")
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= _MOST_ROWS:
        raise _HttpError(422, _wrong("limit", f"must be a whole number from 1 to {_MOST_ROWS}"))
    return int(limit)


def check_permission(permission: P) -> P:
    """
    Return a function that tells who may use the API.

    Raises:
        ArgumentTypeError: It is a coroutine function.
    """
    if inspect.iscoroutinefunction(permission):
        raise ArgumentTypeError("permission is a plain function, not a coroutine")
    return permission


def _changed(change: Callable[[str], AgentInfo], agent_id: str) -> Any:
    try:
        agent = change(agent_id)
    except AgentNotFound:
        raise _HttpError(404, "Agent not found") from None
    except AgentNotProvisioned:
        raise _HttpError(400, "Agent has no Butt-Dial token — provision first") from None
    return {"status": agent.status, "agent": agent.name, "id": agent.id}


def _wrong(parameter: str, message: str) -> Any:
    return [{"type": "value_error", "loc": ["query", parameter], "msg": message}]
