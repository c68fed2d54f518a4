"""Arguments that no JSON can hold, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from buttdial_sync import ArgumentTypeError, ArgumentValueError, Client
from buttdial_sync.testing import FakeButtDialServer

URL = "https://butt-dial.test"
CIRCLE: dict[str, Any] = {}
CIRCLE["itself"] = CIRCLE

Call = Callable[[Client, Any], object]


@pytest.fixture
def client() -> Iterator[Client]:
    fake = FakeButtDialServer()
    with fake.mocked(URL), Client(URL, agent_token="t") as made:
        yield made
    fake.assert_nothing_sent()


def set_limits(client: Client, value: Any) -> object:
    return client.organization.set_limits(value, confirm=True)


def call_tool(client: Client, value: Any) -> object:
    return client.call_tool("comms_ping", value)


@pytest.mark.parametrize("call", [set_limits, call_tool])
@pytest.mark.parametrize("value", [CIRCLE, {"a": float("nan")}, {"a": [float("inf")]}])
def test_values_that_json_cannot_hold(client: Client, call: Call, value: Any) -> None:
    """A circle, and numbers that are not finite: JSON has no word for them."""
    with pytest.raises(ArgumentValueError):
        call(client, value)


@pytest.mark.parametrize(
    ("call", "value", "words"),
    [
        (set_limits, {1: 2}, r"limits must be Mapping\[str, .*Any\], not dict of int to int"),
        (
            lambda client, value: client.send_message("+1", "x", template_vars=value),
            {"a": 1},
            r"template_vars must be Mapping\[str, str\] or None, not dict of str to int",
        ),
        (
            lambda client, value: client.send_message("+1", "x", fallback_channels=value),
            [1],
            r"fallback_channels must be Sequence\[str\] or None, not list of int",
        ),
    ],
)
def test_wrong_types_inside(client: Client, call: Call, value: Any, words: str) -> None:
    """The message says what was wanted inside; "a Mapping, not a dict" would be a riddle."""
    with pytest.raises(ArgumentTypeError, match=words):
        call(client, value)
