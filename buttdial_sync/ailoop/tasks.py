"""Tasks of a channel, and what blocks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import quote

import attrs

from buttdial_sync.ailoop.connection import AiloopConnection
from buttdial_sync.ailoop.errors import AiloopConfigError
from buttdial_sync.models.result import ReceivedObject

TaskState = Literal["pending", "done", "abandoned"]
DependencyType = Literal["blocks", "related", "parent"]
T = TypeVar("T")

_TASK = "/api/v1/tasks/{id}"


@attrs.frozen(kw_only=True)
class Task(ReceivedObject):
    """
    A task.

    Attributes:
        id: Its id.
        title: Its title.
        description: What is to be done.
        state: ``"pending"``, ``"done"`` or ``"abandoned"``.
        created_at: When it was made (aware, UTC).
        updated_at: When it was changed last (aware, UTC).
        assignee: Who does it, or None.
        metadata: What its maker has added, or None.
        depends_on: The ids of the tasks that block it. Every type of dependency blocks.
        blocked: Whether one of them is not done.
        raw: The task as it came.
    """

    id: str
    title: str
    description: str
    state: str
    created_at: datetime
    updated_at: datetime
    assignee: str | None = None
    metadata: Any = None
    depends_on: list[str] = attrs.field(factory=list)
    blocked: bool = False


@attrs.frozen(kw_only=True)
class TaskDependencies(ReceivedObject):
    """
    What a task waits for, and what waits for it: ids of tasks.

    Attributes:
        task_id: The task.
        depends_on: The tasks that block it.
        blocking_for: The tasks that it blocks.
    """

    task_id: str
    depends_on: list[str] = attrs.field(factory=list)
    blocking_for: list[str] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class TaskGraph(ReceivedObject):
    """
    A task and its neighbours, one level up and down.

    Attributes:
        task: The task.
        parents: The tasks that block it.
        children: The tasks that it blocks.
    """

    task: Task
    parents: list[Task] = attrs.field(factory=list)
    children: list[Task] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class _TaskList:
    tasks: list[Task]


class Tasks:
    """
    The tasks of a server's channels. Safe to share between threads.

    A task belongs to its channel: the server does not find it by its id alone. It keeps tasks in
    memory only.
    """

    def __init__(self, connection: AiloopConnection) -> None:
        self._connection = connection

    def create(
        self,
        title: str,
        description: str = "",
        *,
        channel: str | None = None,
        assignee: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Task:
        """
        Make a task. Not safe to repeat: a second call makes a second task.

        Args:
            title: Its title.
            description: What is to be done.
            channel: Its channel; the client's own when None.
            assignee: Who does it.
            metadata: Anything else.
        """
        body: dict[str, Any] = {
            "title": title,
            "description": description,
            "channel": self._connection.channel_or_own(channel),
        }
        if assignee is not None:
            body["assignee"] = assignee
        if metadata is not None:
            body["metadata"] = dict(metadata)
        return self._connection.call("POST", "/api/v1/tasks", Task, body=body)

    def get(self, task_id: str, *, channel: str | None = None) -> Task:
        """
        Get a task.

        Raises:
            MessageNotFoundError: The channel has no such task.
        """
        return self._call("GET", task_id, "", Task, channel)

    def update(self, task_id: str, state: TaskState, *, channel: str | None = None) -> Task:
        """
        Set a task's state. Safe to repeat.

        Args:
            task_id: The task.
            state: ``"pending"``, ``"done"`` or ``"abandoned"``.
            channel: Its channel; the client's own when None.

        Raises:
            AiloopConfigError: There is no such state.
            MessageNotFoundError: The channel has no such task.
        """
        wanted = _one_of(state, get_args(TaskState), "state")
        return self._call("PUT", task_id, "", Task, channel, {"state": wanted})

    def list(self, *, channel: str | None = None, state: TaskState | None = None) -> Sequence[Task]:
        """
        List the tasks of a channel, the oldest first.

        Args:
            channel: The channel; the client's own when None.
            state: Only those in this state.
        """
        wanted = None if state is None else _one_of(state, get_args(TaskState), "state")
        return self._list("/api/v1/tasks", channel, {"state": wanted} if wanted else {})

    def ready(self, *, channel: str | None = None) -> Sequence[Task]:
        """List the pending tasks that nothing blocks. The server alone names those done, too."""
        found = self._list("/api/v1/tasks/ready", channel, {})
        return [task for task in found if task.state == "pending"]

    def blocked(self, *, channel: str | None = None) -> Sequence[Task]:
        """List the tasks that wait for others."""
        return self._list("/api/v1/tasks/blocked", channel, {})

    def add_dependency(
        self,
        task_id: str,
        depends_on: str,
        *,
        type: DependencyType = "blocks",  # noqa: A002 - its name on the wire
        channel: str | None = None,
    ) -> None:
        """
        Have a task wait for another one.

        Args:
            task_id: The task that waits.
            depends_on: The one that it waits for.
            type: ``"blocks"``, ``"related"`` or ``"parent"``. All of them block.
            channel: Their channel; the client's own when None.

        Raises:
            ValidationError: One of them does not exist, or waits for the other already.
        """
        body = {
            "child_id": task_id,
            "parent_id": depends_on,
            "dependency_type": _one_of(type, get_args(DependencyType), "type"),
        }
        self._call("POST", task_id, "/dependencies", dict, channel, body)

    def remove_dependency(
        self, task_id: str, depends_on: str, *, channel: str | None = None
    ) -> None:
        """Have a task no longer wait for another one. The server says yes if it never did, too."""
        way = f"/dependencies/{_quoted(depends_on, 'depends_on')}"
        self._call("DELETE", task_id, way, dict, channel)

    def dependencies(self, task_id: str, *, channel: str | None = None) -> TaskDependencies:
        """Get the ids of the tasks that a task waits for, and of those that wait for it."""
        return self._call("GET", task_id, "/dependencies", TaskDependencies, channel)

    def graph(self, task_id: str, *, channel: str | None = None) -> TaskGraph:
        """Get a task with those that block it and those that it blocks: one level, not all."""
        return self._call("GET", task_id, "/graph", TaskGraph, channel)

    def _call(
        self,
        method: str,
        task_id: str,
        way: str,
        kind: type[T],
        channel: str | None,
        body: Mapping[str, Any] | None = None,
    ) -> T:
        return self._connection.call(
            method,
            f"/api/v1/tasks/{_quoted(task_id, 'task_id')}{way}",
            kind,
            query={"channel": self._connection.channel_or_own(channel)},
            body=body,
            endpoint=f"{_TASK}{way if way in {'/dependencies', '/graph'} else ''}",
        )

    def _list(self, path: str, channel: str | None, query: Mapping[str, str]) -> Sequence[Task]:
        wanted = {"channel": self._connection.channel_or_own(channel), **query}
        answer: _TaskList = self._connection.call("GET", path, _TaskList, query=wanted)
        return answer.tasks


def _quoted(task_id: str, name: str) -> str:
    if not isinstance(task_id, str):
        raise AiloopConfigError(f"{name} must be a task's id")
    return quote(task_id, safe="")


def _one_of(value: str, allowed: Sequence[str], name: str) -> str:
    lower = str(value).lower()
    if lower not in allowed:
        raise AiloopConfigError(f"{name} must be one of: {', '.join(allowed)}")
    return lower
