"""Arguments: their check against annotations, and their way into JSON."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pytest

from buttdial_sync.calls.arguments import (
    check_argument,
    checked,
    json_value,
    plain_text,
    to_wire,
)
from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError


class Family:
    """Has methods as the tool families have them."""

    @checked
    def call(
        self,
        to: str,
        agent_id: str | None = None,
        kind: Literal["a", "b"] = "a",
        note: str = "",
        **more: int,
    ) -> tuple[Any, ...]:
        """Return what arrived."""
        return to, agent_id, kind, note, more


def test_good_arguments_arrive() -> None:
    """A checked method gets what it was called with, and its result comes back."""
    assert Family().call("+1", kind="b", note="", x=1) == ("+1", None, "b", "", {"x": 1})
    assert Family.call.__doc__ == "Return what arrived."


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"to": 5}, ArgumentTypeError, r"^to must be str, not int$"),
        ({"to": None}, ArgumentTypeError, r"^to must be str, not NoneType$"),
        ({"to": " "}, ArgumentValueError, r"^to must not be empty$"),
        ({"to": "+1", "agent_id": ""}, ArgumentValueError, r"^agent_id must not be empty$"),
        ({"to": "+1", "agent_id": 5}, ArgumentTypeError, r"^agent_id must be str or None, not int"),
        ({"to": "+1", "kind": "c"}, ArgumentValueError, r"^kind must be one of 'a', 'b'(\n|$)"),
        ({"to": "+1", "kind": 1}, ArgumentTypeError, r"^kind must be 'a' or 'b', not int$"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    """A wrong type, a blank required text, a blank id and a value that is not one of those."""
    with pytest.raises(kind, match=words):
        Family().call(**arguments)


def test_what_frameworks_use_for_texts() -> None:
    """A decimal and a lazy translation arrive as text where text is wanted."""
    from django.utils.functional import lazystr

    arrived = Family().call(Decimal("1.50"), lazystr("agent"), kind=lazystr("b"), note="", x=1)  # type: ignore[arg-type]
    assert arrived == ("1.50", "agent", "b", "", {"x": 1})


class Kind(str, Enum):
    SMS = "sms"


def test_texts_of_a_host_without_django(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enum is its value, one of texts a plain text too; the rest stays what it is."""
    monkeypatch.delitem(sys.modules, "django.utils.functional", raising=False)
    assert type(plain_text(Kind.SMS)) is str
    assert [plain_text(each) for each in (Kind.SMS, "sms", 5, None)] == ["sms", "sms", 5, None]


class Keeper:
    @checked
    def keep(self, team_token: str, code: str, note: str, extra: Mapping[str, Any]) -> str:
        """Return what a frame that is shown has of them."""
        return repr((team_token, code, note, extra))


def test_secrets_are_masked_before_a_method_runs() -> None:
    """Tokens and passcodes by their parameters' names, and what has such a name in a mapping."""
    extra = {"agentToken": "s3cret", "note": "said"}
    shown = Keeper().keep("s3cret", "s3cret", note="said", extra=extra)
    assert shown == "('***', '***', 'said', {'agentToken': '***', 'note': 'said'})"


def test_blank_text_that_nobody_needs() -> None:
    """An optional text may be blank, an id and a required one may not."""
    check_argument("note", "", str, required=False)
    for name in ("agent_id", "message_sid", "poll_token"):
        with pytest.raises(ArgumentValueError, match=name):
            check_argument(name, "", str | None, required=False)


def fits(value: object, hint: Any) -> bool:
    try:
        check_argument("x", value, hint, required=False)
    except ArgumentTypeError:
        return False
    return True


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (str, ["a", ""], [5, None, b"a"]),
        (bool, [True, False], [0, 1, "true"]),
        (int, [0, 5], [True, 1.5, "5", None]),
        (float, [0, 1.5, 5], [False, "1.5", None]),
        (str | None, ["a", None], [5]),
        (Any, ["a", None, 5, object()], []),
        (Callable[[int], int], [len], ["len", 5]),
        (Mapping[str, int], [{}, {"a": 1, "b": 2}], [{"a": "1"}, {1: 1}, {"a": 1, "b": "2"}, []]),
        (dict[str, Any], [{}, {"a": None}], [{1: 1}, [("a", 1)], "a"]),
        (Sequence[str], [[], ["a"], ("a", "b")], ["ab", b"ab", ["a", 1], [1, "a"], {"a"}, 5]),
        (list[int], [[1, 2]], [["1"], [1, "2"]]),
        (tuple[str, int], [("a",)], [(1,)]),
        (Literal["a", 5], ["a", 5], [1.5, None]),
        (int | str | None, [5, "a", None], [1.5, []]),
        (Sequence[str] | None, [None, ["a"]], ["a"]),
    ],
)
def test_types(hint: Any, good: list[object], bad: list[object]) -> None:
    """A value is what its annotation says, with all that is inside of it."""
    assert all(fits(value, hint) for value in good)
    assert not any(fits(value, hint) for value in bad)


def test_a_hint_without_a_test() -> None:
    """An annotation that nothing here can look into fails at the first call, not in silence."""
    with pytest.raises(TypeError, match="parameterized generic"):
        check_argument("x", {"a"}, set[str], required=False)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str, "str"),
        (str | None, "str or None"),
        (Literal["a", "b"] | None, "'a' or 'b'"),
        (int | Sequence[str], r"int or Sequence"),
    ],
)
def test_hints_in_words(hint: Any, words: str) -> None:
    """A message names the types that are allowed."""
    with pytest.raises(ArgumentTypeError, match=f"x must be {words}.*, not object"):
        check_argument("x", object(), hint, required=True)


def test_optional_choice() -> None:
    """A choice that may be left out is checked where it is given."""
    hint = Literal["a", "b"] | None
    check_argument("kind", None, hint, required=True)
    check_argument("kind", "b", hint, required=True)
    with pytest.raises(ArgumentValueError, match="kind must be one of 'a', 'b'"):
        check_argument("kind", "c", hint, required=False)


def test_to_wire() -> None:
    """Names change, None stays out at the top only, and what is inside is kept."""
    given = {"media_url": {"a_b": None}, "left_out": None, "is_it": False}
    assert to_wire(given) == {"mediaUrl": {"a_b": None}, "isIt": False}
    assert to_wire({"a_b": 1}, str.upper) == {"A_B": 1}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("\n", "\n"),
        (None, None),
        (True, True),
        (5, 5),
        (1.5, 1.5),
        (Decimal("1.5"), 1.5),
        (("a", ["b\r"]), ["a", ["b\n"]]),
        ({"k": {"l": "m\r\n"}}, {"k": {"l": "m\n"}}),
        ({"k": None}, {"k": None}),
        ([None], [None]),
    ],
)
def test_json_values(value: object, wanted: object) -> None:
    """Values become plain JSON types, their texts with line feeds only."""
    found = json_value(value, "x")
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (math.nan, ArgumentValueError, r"^x must be a finite number$"),
        ({"k": [1, math.inf]}, ArgumentValueError, r"^x\['k'\]\[1\] must be a finite number$"),
        (Decimal("-Infinity"), ArgumentValueError, r"^x must be a finite number$"),
        ({"a": 1, 5: 2}, ArgumentTypeError, r"^x must have keys that are text$"),
        ([{5: 2}], ArgumentTypeError, r"^x\[0\] must have keys that are text$"),
        (b"a", ArgumentTypeError, r"^x must be plain JSON, not bytes$"),
        (bytearray(b"a"), ArgumentTypeError, r"not bytearray$"),
        (memoryview(b"a"), ArgumentTypeError, r"not memoryview$"),
        ({"a"}, ArgumentTypeError, r"not set$"),
        ([object()], ArgumentTypeError, r"^x\[0\] must be plain JSON, not object$"),
    ],
)
def test_no_json_values(value: object, kind: type[Exception], words: str) -> None:
    """What JSON cannot hold is named with its place."""
    with pytest.raises(kind, match=words):
        json_value(value, "x")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": 1, "b": None}, r"not dict of str to NoneType or int$"),
        ({1: "a"}, r"not dict of int to str$"),
        ([], r"not list$"),
        (("a", 1), r"not tuple of int or str$"),
    ],
)
def test_a_wrong_container(value: Any, words: str) -> None:
    """The message says what is in it, because that is what is wrong."""
    with pytest.raises(ArgumentTypeError, match=words):
        check_argument("vars", value, Mapping[str, str] | None, required=False)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("whatsap", "Did you mean 'whatsapp'?"),
        (" SMS", "Did you mean 'sms'?"),
        ("fax", "Give one of them."),
    ],
)
def test_the_nearest_value(given: str, advice: str) -> None:
    """A misspelt value is answered with the one that is meant."""
    with pytest.raises(ArgumentValueError) as caught:
        check_argument("channel", given, Literal["whatsapp", "sms"], required=True)
    assert caught.value.remediation == advice


class Strict:
    """A family whose method takes only what it names."""

    @checked
    def send(self, to: str, *, agent_token: str | None = None) -> str:
        """Return what arrived."""
        return to


def test_a_misspelt_keyword() -> None:
    """The method and the nearest keyword are named; no value is, and none is in a frame."""
    with pytest.raises(TypeError) as caught:
        Strict().send("+1", agent_tokn="secret-1")  # type: ignore[call-arg]
    assert str(caught.value).startswith("Strict.send(): ")
    assert str(caught.value).endswith("'agent_tokn'; write agent_token= for agent_tokn=")
    frames = [frame.frame for frame in inspect.getinnerframes(caught.value.__traceback__)[1:]]  # type: ignore[arg-type]
    assert frames
    assert all("secret-1" not in repr(frame.f_locals) for frame in frames)
