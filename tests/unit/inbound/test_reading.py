"""Single fields of JSON that anybody may have written."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from buttdial_sync.inbound import reading


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({}, None),
        ({"fileName": None, "other": None}, None),
        ({"fileName": "a", "file_name": "b", "other": "c"}, "a"),
        ({"fileName": None, "file_name": "b", "other": "c"}, "b"),
        ({"file_name": None, "other": "c"}, "c"),
        ({"fileName": "", "other": "c"}, ""),
        ({"fileName": 0, "other": 1}, 0),
    ],
)
def test_first(data: dict[str, Any], value: object) -> None:
    """The first name that is there and not null, in either writing."""
    assert reading.first(data, ("fileName", "other")) == value


@pytest.mark.parametrize(
    ("function", "given", "value"),
    [
        (reading.text, "x", "x"),
        (reading.text, "", ""),
        (reading.text, "cut \ud83d", "cut \ufffd"),
        (reading.text, 5, None),
        (reading.text, ["x"], None),
        (reading.identifier, "x", "x"),
        (reading.identifier, 5, "5"),
        (reading.identifier, 0, "0"),
        (reading.identifier, "", None),
        (reading.identifier, True, None),
        (reading.identifier, 5.0, None),
        (reading.identifier, None, None),
        (reading.flag, True, True),
        (reading.flag, False, False),
        (reading.flag, 1, False),
        (reading.flag, "true", False),
        (reading.flag, None, False),
        (reading.whole_number, 5, 5),
        (reading.whole_number, 0, 0),
        (reading.whole_number, True, None),
        (reading.whole_number, 5.0, None),
        (reading.whole_number, "5", None),
        (reading.number, 5, 5.0),
        (reading.number, 5.5, 5.5),
        (reading.number, False, None),
        (reading.number, "5", None),
        (reading.number, float("nan"), None),
        (reading.number, float("inf"), None),
        (reading.number, 10**400, None),
        (reading.moment, 1_767_323_045, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        (reading.moment, "soon", None),
        (reading.moment, None, None),
        (reading.moment, 10**400, None),
        (reading.mapping, {"x": 1}, {"x": 1}),
        (reading.mapping, [1], {}),
        (reading.mapping, None, {}),
    ],
)
def test_a_field(function: Any, given: object, value: object) -> None:
    """What does not fit is not there."""
    found = function({"a": given}, "a")
    assert found == value
    assert type(found) is type(value)


def test_texts_of_another_type() -> None:
    """Their names, in the order asked for; empty and missing ones are not wrong."""
    data = {"a": 5, "b": "x", "some_name": ["x"], "c": False, "d": None, "e": ""}
    names = ("someName", "a", "b", "c", "d", "e", "f")
    assert reading.wrong_texts(data, *names) == ["someName", "a", "c"]


@pytest.mark.parametrize(
    ("given", "found"), [([{"x": 1}, None, 5, {}], [{"x": 1}, {}]), ({"x": 1}, []), (None, [])]
)
def test_mappings(given: object, found: list[Any]) -> None:
    """The objects of a list; what else is in it is passed over."""
    assert list(reading.mappings({"a": given}, "a")) == found
