"""The HTTP side of the fake ailoop server."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from buttdial_sync.testing.ailoop_hub import (
    AiloopHub,
    JsonObject,
    canonical,
    fault_of,
    moment_now,
)
from buttdial_sync.testing.http_messages import HttpResponse, json_response, text_response

_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED = frozenset({"system", "admin", "internal", "reserved", "ailoop"})
_VERSIONS = {"decision": "1.0.14", "question": "1.0.0"}
_KINDS = {"authorization": "authorize"}
_COLLECTIONS = frozenset({"/api/v1/messages", "/api/v1/tasks"})
_NOT_FOUND = {"error": "Not found"}
_BAD_CHANNEL = {"error": "Invalid channel name"}
_NO_CHANNEL = "Failed to deserialize query string: missing field `channel`"
_STATES = frozenset({"pending", "done", "abandoned"})


class _Refusal(Exception):  # noqa: N818 - it is what a request ends with
    """Ends a request with something else than its result."""

    def __init__(self, status: int, told: JsonObject | str) -> None:
        super().__init__(told)
        if isinstance(told, str):
            self.response = text_response(status, told)
        else:
            self.response = json_response(status, told)


class AiloopHttp:
    """
    Answers requests as the server does, each of its two generations in its own words.

    Args:
        hub: What the server knows.
    """

    def __init__(self, hub: AiloopHub) -> None:
        self._hub = hub
        self._routes: tuple[tuple[str, re.Pattern[str], Callable[..., JsonObject]], ...] = tuple(
            (method, re.compile(pattern), answer)
            for method, pattern, answer in (
                ("GET", "/api/v1/health", self._health),
                ("POST", "/api/v1/messages", self._post_message),
                ("GET", "/api/v1/messages/([^/]+)", self._get_message),
                ("POST", "/api/v1/messages/([^/]+)/response", self._respond),
                ("GET", "/api/v1/pending", self._pending),
                ("GET", "/api/channels", self._channels),
                ("GET", "/api/channels/([^/]+)/messages", self._history),
                ("GET", "/api/channels/([^/]+)/stats", self._channel_stats),
                ("GET", "/api/stats", self._stats),
                ("POST", "/api/v1/tasks", self._create_task),
                ("GET", "/api/v1/tasks", self._list_tasks),
                ("GET", "/api/v1/tasks/(ready|blocked)", self._list_tasks_by_block),
                ("GET", "/api/v1/tasks/([^/]+)", self._get_task),
                ("PUT", "/api/v1/tasks/([^/]+)", self._update_task),
                ("POST", "/api/v1/tasks/([^/]+)/dependencies", self._add_dependency),
                ("GET", "/api/v1/tasks/([^/]+)/dependencies", self._dependencies),
                ("DELETE", "/api/v1/tasks/([^/]+)/dependencies/([^/]+)", self._remove_dependency),
                ("GET", "/api/v1/tasks/([^/]+)/graph", self._graph),
            )
        )

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> HttpResponse:
        """
        Answer a request.

        Args:
            method: The HTTP method.
            path: The path below the base path.
            query: The parameters.
            body: The decoded JSON body, or None.
        """
        known_path = False
        for route_method, pattern, answer in self._routes:
            found = pattern.fullmatch(path)
            if found is None:
                continue
            known_path = True
            if route_method == method:
                try:
                    with self._hub.changed:
                        told = answer(*found.groups(), query=query, body=body)
                except _Refusal as refusal:
                    return refusal.response
                is_new = method == "POST" and path in _COLLECTIONS
                return json_response(201 if is_new else 200, told)
        return HttpResponse(405) if known_path else json_response(404, _NOT_FOUND)

    @property
    def _is_old(self) -> bool:
        return self._hub.generation == "question"

    def _bad(self, status: int, text: JsonObject | str) -> _Refusal:
        return _Refusal(405, "Method Not Allowed") if self._is_old else _Refusal(status, text)

    def _health(self, **_: Any) -> JsonObject:
        hub = self._hub
        return {
            "status": "healthy",
            "version": _VERSIONS[hub.generation],
            "active_connections": len(hub.sockets),
            "queue_size": int(hub.active is not None),
            "active_channels": len(hub.channels),
        }

    def _post_message(self, *, body: Any, **_: Any) -> JsonObject:
        fault = fault_of(body, self._hub.generation)
        if fault is not None:
            raise self._bad(
                422, f"Failed to deserialize the JSON body into the target type: {fault}"
            )
        if not _is_channel(body["channel"]):
            raise self._bad(400, _BAD_CHANNEL)
        message = canonical(body)
        self._hub.publish(message)
        return message

    def _get_message(self, message_id: str, **_: Any) -> JsonObject:
        try:
            uuid.UUID(message_id)
        except ValueError:
            status = 404 if self._is_old else 400
            raise _Refusal(status, "Invalid URL: UUID parsing failed") from None
        message = self._hub.find(message_id)
        if message is None:
            raise _Refusal(404, {"error": "Message not found", "message_id": message_id})
        return message

    def _respond(self, message_id: str, *, body: Any, **_: Any) -> JsonObject:
        content = {"type": "response", **body} if isinstance(body, Mapping) else {}
        original = self._hub.find(message_id)
        fault = fault_of({**(original or _ANY_MESSAGE), "content": content}, self._hub.generation)
        if fault is not None:
            raise self._bad(422, f"Failed to deserialize the JSON body: {fault}")
        response = self._hub.respond(
            message_id, content.get("answer"), content["response_type"], "http"
        )
        if response is None:
            raise _Refusal(404, {"error": "Original message not found", "message_id": message_id})
        return response

    def _pending(self, *, query: Mapping[str, str], **_: Any) -> JsonObject:
        if self._is_old:
            raise _Refusal(404, _NOT_FOUND)
        channel = query.get("channel")
        if channel is not None and not _is_channel(channel):
            raise _Refusal(400, _BAD_CHANNEL)
        prompt = self._hub.active
        items = []
        if prompt is not None and channel in {None, prompt.message["channel"]}:
            content = prompt.content
            items = [
                {
                    "message_id": prompt.id,
                    "kind": _KINDS.get(prompt.kind, prompt.kind),
                    "channel": prompt.message["channel"],
                    "position": 1,
                    "label": content.get("summary") or content.get("action") or content.get("url"),
                }
            ]
        return {"items": items, "total_count": len(items)}

    def _channels(self, **_: Any) -> JsonObject:
        return {"channels": [{"name": name, **self._counts(name)} for name in self._hub.channels]}

    def _channel_stats(self, channel: str, **_: Any) -> JsonObject:
        return {"channel": channel, **self._counts(channel)}

    def _counts(self, channel: str) -> JsonObject:
        messages = self._hub.channels.get(channel, [])
        return {
            "message_count": len(messages),
            "oldest_message": messages[0]["timestamp"] if messages else None,
            "newest_message": messages[-1]["timestamp"] if messages else None,
        }

    def _history(self, channel: str, *, query: Mapping[str, str], **_: Any) -> JsonObject:
        limit = int(query.get("limit", "100"))
        messages = self._hub.channels.get(channel, [])[-limit:]
        return {"channel": channel, "messages": messages, "total_count": len(messages)}

    def _stats(self, **_: Any) -> JsonObject:
        viewers = sum(each.is_viewer for each in self._hub.sockets.values())
        return {
            "total_viewers": viewers,
            "agent_connections": len(self._hub.sockets) - viewers,
            "viewer_connections": viewers,
            "active_channels": len(self._hub.channels),
        }

    def _create_task(self, *, body: Any, **_: Any) -> JsonObject:
        if not isinstance(body, Mapping) or not {"title", "description", "channel"} <= body.keys():
            raise self._bad(422, "Failed to deserialize the JSON body: missing field")
        now = moment_now()
        task: JsonObject = {
            "id": str(uuid.uuid4()),
            "title": body["title"],
            "description": body["description"],
            "state": "pending",
            "created_at": now,
            "updated_at": now,
            "assignee": body.get("assignee"),
            "metadata": body.get("metadata"),
            "depends_on": [],
            "blocking_for": [],
            "blocked": False,
            "dependency_type": None,
        }
        self._hub.tasks[body["channel"], task["id"]] = task
        return task

    def _list_tasks(self, *, query: Mapping[str, str], **_: Any) -> JsonObject:
        if "channel" not in query:
            raise self._bad(400, _NO_CHANNEL)
        tasks = self._tasks(query["channel"])
        state = query.get("state")
        if state in _STATES:
            tasks = [task for task in tasks if task["state"] == state]
        return {"channel": query["channel"], "tasks": tasks, "total_count": len(tasks)}

    def _list_tasks_by_block(self, which: str, *, query: Mapping[str, str], **_: Any) -> JsonObject:
        if "channel" not in query:
            old = _Refusal(500, "Internal Server Error")
            raise old if self._is_old else _Refusal(400, _NO_CHANNEL)
        blocked = which == "blocked"
        tasks = [task for task in self._tasks(query["channel"]) if task["blocked"] is blocked]
        return {"channel": query["channel"], "tasks": tasks, "total_count": len(tasks)}

    def _get_task(self, task_id: str, *, query: Mapping[str, str], **_: Any) -> JsonObject:
        return self._known_task(task_id, query)

    def _update_task(
        self, task_id: str, *, query: Mapping[str, str], body: Any, **_: Any
    ) -> JsonObject:
        state = body.get("state") if isinstance(body, Mapping) else None
        if state not in _STATES:
            raise self._bad(422, f"Failed to deserialize the JSON body: unknown variant `{state}`")
        task = self._known_task(task_id, query)
        task["state"] = state
        for other in self._tasks(_channel_of(query)):
            self._mark_blocked(other, query)
        return task

    def _add_dependency(
        self, task_id: str, *, query: Mapping[str, str], body: Any, **_: Any
    ) -> JsonObject:
        parent_id = body.get("parent_id") if isinstance(body, Mapping) else None
        task, parent = self._task(task_id, query), self._task(str(parent_id), query)
        if task is None or parent is None or task is parent or self._waits(parent, task, query):
            raise self._bad(400, {"error": "Failed to add dependency: invalid"})
        if parent_id in task["depends_on"]:
            raise self._bad(400, {"error": "Failed to add dependency: exists already"})
        task["depends_on"].append(parent_id)
        self._mark_blocked(task, query)
        return {"status": "ok"}

    def _remove_dependency(
        self, task_id: str, parent_id: str, *, query: Mapping[str, str], **_: Any
    ) -> JsonObject:
        task = self._task(task_id, query)
        if task is not None and parent_id in task["depends_on"]:
            task["depends_on"].remove(parent_id)
            self._mark_blocked(task, query)
        return {"status": "ok"}

    def _dependencies(self, task_id: str, *, query: Mapping[str, str], **_: Any) -> JsonObject:
        task = self._known_task(task_id, query)
        blocking = [each["id"] for each in self._children(task, query)]
        return {"task_id": task_id, "depends_on": task["depends_on"], "blocking_for": blocking}

    def _graph(self, task_id: str, *, query: Mapping[str, str], **_: Any) -> JsonObject:
        task = self._known_task(task_id, query)
        parents = [self._task(each, query) for each in task["depends_on"]]
        return {"task": task, "parents": parents, "children": self._children(task, query)}

    def _tasks(self, channel: str) -> list[JsonObject]:
        return [task for (where, _), task in self._hub.tasks.items() if where == channel]

    def _task(self, task_id: str, query: Mapping[str, str]) -> JsonObject | None:
        return self._hub.tasks.get((_channel_of(query), task_id))

    def _known_task(self, task_id: str, query: Mapping[str, str]) -> JsonObject:
        task = self._task(task_id, query)
        if task is None:
            raise _Refusal(404, {"error": "Task not found", "task_id": task_id})
        return task

    def _children(self, task: JsonObject, query: Mapping[str, str]) -> list[JsonObject]:
        others = self._tasks(_channel_of(query))
        return [other for other in others if task["id"] in other["depends_on"]]

    def _waits(self, task: JsonObject, other: JsonObject, query: Mapping[str, str]) -> bool:
        parents = [self._task(each, query) for each in task["depends_on"]]
        return other in parents or any(self._waits(each, other, query) for each in parents if each)

    def _mark_blocked(self, task: JsonObject, query: Mapping[str, str]) -> None:
        parents = [self._task(each, query) for each in task["depends_on"]]
        task["blocked"] = any(each and each["state"] == "pending" for each in parents)


_ANY_MESSAGE: JsonObject = {
    "id": str(uuid.UUID(int=0)),
    "channel": "public",
    "sender_type": "HUMAN",
    "timestamp": "2026-01-01T00:00:00Z",
}


def _is_channel(name: object) -> bool:
    return (
        isinstance(name, str)
        and _CHANNEL.fullmatch(name) is not None
        and name.lower() not in _RESERVED
    )


def _channel_of(query: Mapping[str, str]) -> str:
    return query.get("channel", "public")
