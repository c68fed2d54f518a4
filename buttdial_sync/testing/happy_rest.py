"""The REST endpoints of the fake Happy server, with the limits of the real one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from buttdial_sync.testing.happy_store import HappyStore, StoredMessage, StoredSession
from buttdial_sync.testing.http_messages import HttpResponse, Request, json_response

_V1_CAP = 150
_CURSOR = "cursor_v1_"
_NOT_FOUND = json_response(404, {"error": "Session not found"})

OnMessage = Callable[[StoredSession, StoredMessage], None]


class HappyRest:
    """
    Answers REST requests.

    Args:
        store: The tables.
        token: The token that is accepted.
        on_message: Called with each new message, for its agent.
        on_archive: Called with the session that is archived.
    """

    def __init__(
        self,
        store: HappyStore,
        token: str,
        on_message: OnMessage,
        on_archive: Callable[[StoredSession], None],
    ) -> None:
        self._store = store
        self._token = token
        self._on_message = on_message
        self._on_archive = on_archive
        self._routes: tuple[tuple[str, re.Pattern[str], Callable[..., HttpResponse]], ...] = (
            ("GET", re.compile("/v1/machines"), self._machines),
            ("GET", re.compile("/v1/sessions"), self._capped_sessions),
            ("GET", re.compile("/v2/sessions/active"), self._active_sessions),
            ("GET", re.compile("/v2/sessions"), self._sessions),
            ("GET", re.compile("/v1/sessions/([^/]+)/messages"), self._capped_messages),
            ("GET", re.compile("/v3/sessions/([^/]+)/messages"), self._messages),
            ("POST", re.compile("/v3/sessions/([^/]+)/messages"), self._send),
            ("POST", re.compile("/v1/sessions/([^/]+)/archive"), self._archive),
            ("DELETE", re.compile("/v1/sessions/([^/]+)"), self._delete),
        )

    def answer(self, request: Request) -> HttpResponse:
        """Answer a request."""
        if request.bearer is None:
            return json_response(401, {"error": "Missing authorization header"})
        if request.bearer != self._token:
            return json_response(401, {"error": "Invalid token"})
        for method, path, endpoint in self._routes:
            found = path.fullmatch(request.path)
            if found and method == request.method:
                sessions = [self._store.sessions.get(each) for each in found.groups()]
                return _NOT_FOUND if None in sessions else endpoint(request, *sessions)
        message = f"Route {request.method}:{request.path} not found"
        return json_response(404, {"message": message, "error": "Not Found", "statusCode": 404})

    def _machines(self, _: Request) -> HttpResponse:
        return json_response(200, list(self._store.machines.values()))

    def _by_update(self) -> list[StoredSession]:
        with self._store.lock:
            return sorted(self._store.sessions.values(), key=lambda each: -each.updated_at)

    def _capped_sessions(self, _: Request) -> HttpResponse:
        found = [each.as_record() for each in self._by_update()[:_V1_CAP]]
        return json_response(200, {"sessions": found})

    def _active_sessions(self, request: Request) -> HttpResponse:
        limit = _limit(request.query, default=_V1_CAP, most=500)
        if limit is None:
            return _bad_request("limit")
        found = [each.as_record() for each in self._by_update() if each.active][:limit]
        return json_response(200, {"sessions": found})

    def _sessions(self, request: Request) -> HttpResponse:
        limit = _limit(request.query, default=50, most=200)
        cursor = request.query.get("cursor", "")
        if limit is None or (cursor and not cursor.startswith(_CURSOR)):
            return _bad_request("limit or cursor")
        since = int(request.query.get("changedSince", "0"))
        with self._store.lock:
            newest_first = sorted(self._store.sessions.values(), key=lambda each: each.id)[::-1]
        below = cursor.removeprefix(_CURSOR)
        found = [
            each
            for each in newest_first
            if (not below or each.id < below) and each.updated_at > since
        ]
        page, has_next = found[:limit], len(found) > limit
        return json_response(
            200,
            {
                "sessions": [each.as_record() for each in page],
                "nextCursor": f"{_CURSOR}{page[-1].id}" if has_next else None,
                "hasNext": has_next,
            },
        )

    def _capped_messages(self, _: Request, session: StoredSession) -> HttpResponse:
        newest = session.messages[-_V1_CAP:][::-1]
        return json_response(200, {"messages": [each.as_record() for each in newest]})

    def _messages(self, request: Request, session: StoredSession) -> HttpResponse:
        query, limit = request.query, _limit(request.query, default=100, most=500)
        if limit is None or ("after_seq" in query and "before_seq" in query):
            return _bad_request("limit, after_seq or before_seq")
        with self._store.lock:
            found = list(session.messages)
        if "before_seq" in query:
            found = [each for each in found if each.seq < int(query["before_seq"])][::-1]
        else:
            found = [each for each in found if each.seq > int(query.get("after_seq", "0"))]
        page = [each.as_record() for each in found[:limit]]
        return json_response(200, {"messages": page, "hasMore": len(found) > limit})

    def _send(self, request: Request, session: StoredSession) -> HttpResponse:
        given = json.loads(request.body).get("messages") or []
        if not 1 <= len(given) <= 100 or not all(map(_is_message, given)):
            return _bad_request("messages")
        stored = []
        for each in given:
            message, is_new = self._store.add_message(session, each["content"], each["localId"])
            stored.append({k: v for k, v in message.as_record().items() if k != "content"})
            if is_new:
                self._on_message(session, message)
        return json_response(200, {"messages": stored})

    def _archive(self, _: Request, session: StoredSession) -> HttpResponse:
        self._on_archive(session)
        return json_response(200, {"success": True})

    def _delete(self, _: Request, session: StoredSession) -> HttpResponse:
        if not self._store.delete_session(session.id):
            return _NOT_FOUND
        return json_response(200, {"success": True})


def _is_message(given: Any) -> bool:
    wanted = ("content", "localId")
    return isinstance(given, dict) and all(isinstance(given.get(name), str) for name in wanted)


def _limit(query: Mapping[str, Any], *, default: int, most: int) -> int | None:
    text = query.get("limit", str(default))
    return int(text) if text.isdecimal() and 1 <= int(text) <= most else None


def _bad_request(name: str) -> HttpResponse:
    body = {"error": "Bad Request", "message": f"querystring/{name} is invalid", "statusCode": 400}
    return json_response(400, body)
