"""The list of tools in pages, and when it is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.tool_list import ToolList
from tests.unit.moments import every_line

DEADLINE = Deadline(5.0)


class Server:
    """Answers with pages, in turn, the last one again and again."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []
        self.before_answer: Callable[[], None] = lambda: None

    def __call__(self, method: str, params: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        assert (method, deadline) == ("tools/list", DEADLINE)
        self.asked.append(params)
        self.before_answer()
        return self.pages[min(len(self.asked), len(self.pages)) - 1]


def page(*names: str, **more: Any) -> dict[str, Any]:
    return {"tools": [{"name": name} for name in names], **more}


def names_of(tools: ToolList) -> list[str]:
    return [tool.name for tool in tools.get(DEADLINE)]


def test_pages_are_put_together() -> None:
    """Each page is asked for with the cursor of the one before; the whole list is asked once."""
    server = Server(page("a", nextCursor="2"), page("b", nextCursor="3"), page("c"))
    tools = ToolList(server)
    assert names_of(tools) == names_of(tools) == ["a", "b", "c"]
    assert server.asked == [{}, {"cursor": "2"}, {"cursor": "3"}]


@pytest.mark.parametrize("cursor", ["", None, 5, ["x"]])
def test_cursors_that_are_none(cursor: object) -> None:
    """What is not a text with something in it ends the list."""
    server = Server(page("a", nextCursor=cursor))
    assert names_of(ToolList(server)) == ["a"]
    assert server.asked == [{}]


def test_cursors_in_a_circle() -> None:
    """A server whose pages never end is not asked for ever."""
    server = Server(page("a", nextCursor="1"), page("b", nextCursor="2"), page("c", nextCursor="1"))
    assert names_of(ToolList(server)) == ["a", "b", "c"]
    assert len(server.asked) == 3


@pytest.mark.parametrize("listed", [None, "x", 5, {"name": "a"}])
def test_pages_without_a_list(listed: object) -> None:
    """They count as empty, and so does what is not an object in a list."""
    assert names_of(ToolList(Server({"tools": listed}))) == []
    assert names_of(ToolList(Server({"tools": ["x", {"name": "a"}]}))) == ["a"]


def test_change_is_asked_for() -> None:
    """After a change the list is asked for again."""
    server = Server(page("a"), page("b"))
    tools = ToolList(server)
    assert names_of(tools) == ["a"]
    tools.changed()
    assert names_of(tools) == names_of(tools) == ["b"]
    assert len(server.asked) == 2


def test_change_while_it_is_asked_for() -> None:
    """What was on its way when the list changed is not kept."""
    server = Server(page("a"), page("b"))
    tools = ToolList(server)
    server.before_answer = tools.changed
    assert names_of(tools) == ["a"]
    server.before_answer = lambda: None
    assert names_of(tools) == names_of(tools) == ["b"]


def test_change_at_any_moment() -> None:
    """Whatever line a caller is at when the list changes, the next one gets the new list."""

    def change() -> None:
        server.pages[:] = [page("new")]
        tools.changed()

    for moment in every_line(ToolList.get.__code__, change):
        server = Server(page("old"))
        tools = ToolList(server)
        with moment:
            tools.get(DEADLINE)
        assert names_of(tools) == ["new" if moment.came else "old"]
