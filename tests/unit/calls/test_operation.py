"""What an operation says of itself when nothing more is said of it."""

from __future__ import annotations

import attrs
import pytest

from buttdial_sync.calls.operation import Endpoint, ToolOperation, Variant, check_answer, fill_path
from buttdial_sync.errors import ArgumentValueError, ToolError


@pytest.mark.parametrize(
    ("kind", "positional"),
    [
        (ToolOperation, ["name", "result"]),
        (Endpoint, ["method", "path", "result"]),
        (Variant, []),
    ],
)
def test_flags_are_named(kind: type, positional: list[str]) -> None:
    """A flag cannot be given without its name, where it would be taken for another."""
    assert [each.name for each in attrs.fields(kind) if not each.kw_only] == positional


@pytest.mark.parametrize(
    "answer",
    [
        {"success": True},
        {"success": None},
        {"success": "false"},
        {"success": 0},
        {"valid": False, "reason": "wrong code"},
        {"hasConsent": False, "status": "none"},
        {"error": None},
        {},
        [],
        ["success", False],
        "success: false",
        None,
        False,
        # Something was made, and what it is opened with comes only this once.
        {"success": False, "error": "no email", "token": "new-s3cret"},
        {"success": False, "provisioning": {"securityToken": "new-s3cret"}},
    ],
)
def test_what_is_not_a_no(answer: object) -> None:
    """Only ``success`` false is one; what people answered or proved is an answer like any other."""
    seen: list[object] = []
    check_answer(answer, None)
    check_answer(answer, seen.append)
    assert seen == [answer]


def test_a_no() -> None:
    """It raises with the server's words and code, before the operation's own check."""
    no = {"success": False, "error": "no credit", "code": "X_1", "retryable": True, "token": None}
    with pytest.raises(ToolError, match="no credit") as caught:
        check_answer(no, pytest.fail)
    assert (caught.value.code, caught.value.retryable, caught.value.body) == ("X_1", True, no)


def test_plain_endpoint() -> None:
    """It may not be repeated, takes no key, is not signed, and has one way to be written."""
    plain = Endpoint("POST", "/x", dict)
    assert (plain.name, plain.auth) == ("POST /x", "token")
    assert (plain.reads_only, plain.takes_key, plain.is_signed) == (False, False, False)
    assert plain.variants == (Variant(path="/x"),)
    assert plain.key_of("team_token") == "teamToken"


def test_plain_tool() -> None:
    """It may not be repeated, its ``agentId`` says who speaks, and a server may lack it."""
    plain = ToolOperation("comms_x", dict)
    assert (plain.reads_only, plain.agent_id_is_subject, plain.shared) == (False, False, None)
    assert not plain.is_understood_everywhere({})


def test_variants() -> None:
    """The hosted way comes first; the other differs in the path, in keys, or in both."""
    keys = {"a": "b"}
    assert Endpoint("GET", "/x", dict, open_source_path="/y").variants == (
        Variant(path="/x"),
        Variant(path="/y"),
    )
    assert Endpoint("GET", "/x", dict, open_source_names=keys).variants == (
        Variant(path="/x"),
        Variant(path="/x", names=keys),
    )


def test_keys() -> None:
    """A name of its own wins over the spelling."""
    endpoint = Endpoint("GET", "/x", dict, names={"a_b": "AB"}, spell=str.upper)
    assert [endpoint.key_of(name) for name in ("a_b", "c_d")] == ["AB", "C_D"]


def test_places() -> None:
    """An argument is in the path, in the query, or in the body."""
    endpoint = Endpoint("GET", "/x/{a}/y", dict, query=("b",))
    inside = [name for name in ("a", "b", "c", "y") if endpoint.is_in_body(name)]
    assert inside == ["c", "y"]


def test_paths() -> None:
    """Each part is quoted as one; a part that would name another endpoint is refused."""
    assert fill_path("/x/{a}/{b}", {"a": "1/2 ?", "b": "..."}) == "/x/1%2F2%20%3F/..."
    for value in (".", ".."):
        with pytest.raises(ArgumentValueError, match="b must not be"):
            fill_path("/x/{a}/{b}", {"a": "1", "b": value})


def test_understood_everywhere() -> None:
    """Shared arguments, hints and defaults are; any other value or argument is not."""
    tool = ToolOperation("comms_x", dict, shared=("to",), defaults={"limit": 50})
    assert tool.is_understood_everywhere({"to": "+1", "threadId": "t", "limit": 50})
    assert not tool.is_understood_everywhere({"to": "+1", "limit": 5})
    assert not tool.is_understood_everywhere({"to": "+1", "other": None})
