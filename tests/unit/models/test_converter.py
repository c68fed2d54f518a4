"""From decoded JSON to result objects: nothing coerced, and clear about what does not fit."""

from __future__ import annotations

import gc
import logging
import weakref
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buttdial_sync.errors import ProtocolError
from buttdial_sync.errors.moments import parse_moment
from buttdial_sync.models.converter import Identifier, structure
from buttdial_sync.models.names import snake_case

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@attrs.frozen(kw_only=True)
class Text:
    value: str


@attrs.frozen(kw_only=True)
class Flag:
    value: bool


@attrs.frozen(kw_only=True)
class Whole:
    value: int


@attrs.frozen(kw_only=True)
class Number:
    value: float


@attrs.frozen(kw_only=True)
class Amount:
    value: Decimal


@attrs.frozen(kw_only=True)
class Id:
    value: Identifier


@attrs.frozen(kw_only=True)
class Inner:
    message_id: str
    sent_at: datetime | None = None


@attrs.frozen(kw_only=True)
class Outer:
    items: list[Inner] = attrs.field(factory=list)
    by_name: dict[str, Inner] = attrs.field(factory=dict)
    first: Inner | None = None
    from_: str | None = attrs.field(default=None, metadata={"wire": "from"})
    raw: Any = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Required:
    items: list[Inner]
    by_name: dict[str, Inner]
    first: Inner


@attrs.frozen(kw_only=True)
class Credential:
    token: str
    names: list[str] | None = None
    count: int | None = None
    is_new: bool = False
    by_channel: dict[str, int] = attrs.field(factory=dict)
    items: list[Inner] = attrs.field(factory=list)
    inner: Inner | None = None
    raw: Any = attrs.field(default=None, eq=False, repr=False)


REFUSED = object()
NULL, TRUE, WHOLE, REAL, DIGITS, TEXT, LIST = None, True, 3, 1.5, "3", "x", ["x"]
VALUES = (NULL, TRUE, WHOLE, REAL, DIGITS, TEXT, LIST)
STRICTNESS: dict[type[Any], tuple[object, ...]] = {
    #        null     true     3             1.5             "3"           "x"      ["x"]
    Text: (REFUSED, REFUSED, REFUSED, REFUSED, "3", "x", REFUSED),
    Flag: (REFUSED, True, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED),
    Whole: (REFUSED, REFUSED, 3, REFUSED, REFUSED, REFUSED, REFUSED),
    Number: (REFUSED, REFUSED, 3.0, 1.5, REFUSED, REFUSED, REFUSED),
    Amount: (REFUSED, REFUSED, Decimal(3), Decimal("1.5"), Decimal(3), REFUSED, REFUSED),
    Id: (REFUSED, REFUSED, "3", REFUSED, "3", "x", REFUSED),
}
CELLS = [
    (kind, value, wanted)
    for kind, row in STRICTNESS.items()
    for value, wanted in zip(VALUES, row, strict=True)
]


@pytest.mark.parametrize(("kind", "value", "wanted"), CELLS)
def test_nothing_is_coerced(kind: type[Any], value: object, wanted: object) -> None:
    """Each primitive takes its own kind of value and nothing that merely looks like it."""
    if wanted is REFUSED:
        with pytest.raises(ProtocolError, match=r"@ \$\.value"):
            structure({"value": value}, kind, source="x")
    else:
        found = structure({"value": value}, kind, source="x").value
        assert found == wanted
        assert type(found) is type(wanted)


def test_decimal_is_exact() -> None:
    """An amount has the digits that the server wrote."""
    assert str(structure({"value": "0.0790"}, Amount, source="x").value) == "0.0790"
    assert structure({"value": 0.1}, Amount, source="x").value == Decimal("0.1")


@pytest.mark.parametrize("value", ["", "1,5", "one", "0x10", "NaN", "Infinity", float("inf")])
def test_bad_amounts(value: object) -> None:
    """A text that is not a number is not an amount, and neither is what cannot be added up."""
    with pytest.raises(ProtocolError):
        structure({"value": value}, Amount, source="x")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"messageId": "a"}, "a"),
        ({"message_id": "a"}, "a"),
        ({"messageId": "camel", "message_id": "snake"}, "camel"),
        ({"message_id": "snake", "messageId": "camel"}, "camel"),
        ({"messageId": None, "message_id": "snake"}, "snake"),
        ({"message_id": "snake", "messageId": None}, "snake"),
    ],
)
def test_both_spellings(data: dict[str, Any], wanted: str) -> None:
    """Both spellings are read, camelCase first, and a null does not hide the other's value."""
    assert structure(data, Inner, source="x").message_id == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("messageId", "message_id"),
        ("message_id", "message_id"),
        ("mediaURL", "media_url"),
        ("URLPath", "url_path"),
        ("sent2Day", "sent2_day"),
        ("x", "x"),
        ("", ""),
    ],
)
def test_snake_case(name: str, wanted: str) -> None:
    """Names of both spellings become the same."""
    assert snake_case(name) == wanted


def test_raw_is_the_answer_itself() -> None:
    """``raw`` holds what came, unknown keys included, and counts neither in ``==`` nor ``repr``."""
    data = {"items": [], "somethingNew": 1, "from": "a"}
    found = structure(data, Outer, source="x")
    assert found.raw is data
    assert found.from_ == "a"
    assert found == Outer(from_="a")
    assert "somethingNew" not in repr(found)


def test_servers_own_raw_does_not_count() -> None:
    """A key ``raw`` of the server's does not replace ours."""
    data = {"raw": "theirs"}
    assert structure(data, Outer, source="x").raw is data


GOOD = {"messageId": "a"}


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"items": [GOOD, {}]}, None),
        ({"items": [GOOD]}, r"field missing @ \$\.by_name"),
        ({"items": 5}, r"\$\.items"),
        ({"items": "x"}, r"\$\.items"),
        ({"items": GOOD}, r"\$\.items"),
        ({"byName": 5}, r"\$\.by_name"),
        ({"first": {}}, r"field missing @ \$\.first\.message_id"),
        ({"first": {"messageId": 5}}, r"\$\.first\.message_id"),
        ({"first": None}, r"field missing @ \$\.first"),
        ("text", r"@ \$"),
        (None, r"@ \$"),
        ([], r"@ \$"),
    ],
)
def test_what_is_required_has_to_fit(data: object, path: str | None) -> None:
    """An answer without it is our protocol error: who answered, and where it is wrong."""
    if path is None:
        assert isinstance(data, dict)
        data = {**data, "byName": {}, "first": GOOD}
        assert structure(data, Required, source="x").items == [Inner(message_id="a")]
        return
    with pytest.raises(ProtocolError, match=path) as caught:
        structure(data, Required, source="comms_x")
    error = caught.value
    assert str(error).startswith("comms_x answered in an unexpected shape")
    assert (error.stage, error.outcome, error.body) == ("parse", "sent", data)
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"items": [GOOD, {}]}, r"\$\.items\[1\]"),
        ({"items": [{"messageId": 5}]}, r"\$\.items\[0\]\.message_id"),
        ({"byName": {"k": {"messageId": 5}}}, r"\$\.by_name"),
        ({"first": {"messageId": "a", "sentAt": "never"}}, r"\$\.first"),
        ({"items": 5}, r"\$\.items"),
        ({"items": ["x"]}, r"\$\.items\[0\]"),
        ({"from": 5}, r"\$\.from_"),
    ],
)
def test_strict(data: object, path: str) -> None:
    """Where that is asked for, everything has to fit."""
    with pytest.raises(ProtocolError, match=path):
        structure(data, Outer, source="x", strict=True)


@pytest.mark.parametrize(
    ("odd", "kept", "path"),
    [
        ({"count": "1"}, {}, "$.count"),
        ({"isNew": "yes"}, {}, "$.is_new"),
        ({"names": "agents:write billing:read"}, {}, "$.names"),
        ({"names": {"agents": ["write"]}}, {}, "$.names"),
        ({"names": ["a", 5, "b"]}, {"names": ["a", "b"]}, "$.names[1]"),
        ({"byChannel": {"sms": "s3cret", "line": 2}}, {"by_channel": {"line": 2}}, "['sms']"),
        ({"byChannel": ["sms"]}, {}, "$.by_channel"),
        ({"items": {"messageId": "a"}}, {}, "$.items"),
        ({"items": ["s3cret", GOOD]}, {"items": [Inner(message_id="a")]}, "$.items[0]"),
        ({"inner": {"messageId": ["s3cret"]}}, {}, "$.inner.message_id"),
        (
            {"inner": {"messageId": "a", "sentAt": "s3cret"}},
            {"inner": Inner(message_id="a")},
            "$.inner.sent_at",
        ),
    ],
)
def test_an_odd_field_costs_only_itself(
    odd: dict[str, Any], kept: dict[str, Any], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What stands beside it, such as a new token, comes; one line has its path, not its value."""
    data = {"token": "new-s3cret", **odd}
    with caplog.at_level(logging.WARNING, "buttdial_sync"):
        found = structure(data, Credential, source="comms_x")
    assert found == Credential(token="new-s3cret", **kept)
    assert found.raw is data
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("comms_x: ")
    assert path in line
    assert "s3cret" not in line


def test_null_is_as_if_it_were_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """Many servers write null for "none": that is a default, and not worth a line in the log."""
    nulls = dict.fromkeys(("names", "count", "isNew", "byChannel", "items", "inner"))
    assert structure({"token": "t", **nulls}, Credential, source="x") == Credential(token="t")
    assert caplog.records == []


def test_the_log_line_is_short(caplog: pytest.LogCaptureFixture) -> None:
    """A long list of odd items does not fill the log."""
    structure({"token": "t", "items": [5] * 1000}, Credential, source="x")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "$.items[4]" in line
    assert "$.items[5]" not in line
    assert line.endswith("and 995 more")


@pytest.mark.parametrize(("value", "wanted"), [(1.0, 1), (-2.0, -2), (1e3, 1000)])
def test_whole_numbers_of_other_languages(value: float, wanted: int) -> None:
    """JSON does not tell 1.0 from 1."""
    found = structure({"value": value}, Whole, source="x").value
    assert (found, type(found)) == (wanted, int)


def test_lists_at_the_top() -> None:
    """A list of objects is structured too."""
    assert structure([{"messageId": "a"}], list[Inner], source="x") == [Inner(message_id="a")]


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05z",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T04:04:05+01:00",
        "2026-01-01T22:04:05-05:00",
        "2026-01-02T03:04:05",
        "2026-01-02 03:04:05",
        " 2026-01-02 03:04:05 ",
        "2026-01-02T03:04:05+0000",
        "2026-01-02T03:04:05+00",
        "2026-01-02T04:34:05+0130",
        "2026-01-01T22:04:05-05",
        "20260102T030405Z",
        "20260102T040405+0100",
        "2026-01-02T03:04:05,0Z",
        1767323045,
        1767323045.0,
        "1767323045",
        "1767323045.0",
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        datetime(2026, 1, 2, 3, 4, 5),
    ],
)  # fmt: skip
def test_times(value: object) -> None:
    """Each way to write a time gives the same aware UTC time; without a zone it is UTC."""
    found = parse_moment(value)
    assert found == MOMENT
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-01-02T03:04:05.1Z", 100_000),
        ("2026-01-02T03:04:05.123Z", 123_000),
        ("2026-01-02T03:04:05.123456Z", 123_456),
        ("2026-01-02T03:04:05.123456789Z", 123_456),
        ("2026-01-02T03:04:05.12+00:00", 120_000),
        ("1767323045.5", 500_000),
    ],
)
def test_decimals_of_seconds(text: str, microseconds: int) -> None:
    """Any number of decimals is read; more than six are cut."""
    assert parse_moment(text) == MOMENT.replace(microsecond=microseconds)


@pytest.mark.parametrize(
    "value",
    [None, True, "", "never", "12:00", "12345", [], {}, 1e300, -1e300, float("nan"), float("inf"),
     "99999999999", "2026-13-02", "0001-01-01T00:00:00+10:00"],
)  # fmt: skip
def test_no_times(value: object) -> None:
    """Whatever is no time is a ``ValueError``, and in an answer a protocol error."""
    try:
        assert parse_moment(value).tzinfo is timezone.utc
    except ValueError:
        with pytest.raises(ProtocolError):
            structure({"messageId": "a", "sentAt": value or ""}, Inner, source="x", strict=True)


@pytest.mark.parametrize(
    "text",
    ["2026-W01-5", "2026-0102", "2026-01-02T0304:05", "2026-01-02T03:04:05+1", "2026-01-02T25:00",
     "2026-01-02x03:04:05", "2026-01-02T03:04:05+99:00", "٢٠٢٦-01-02", "2026-01-02T03:04:05Z."],
)  # fmt: skip
def test_a_time_is_the_same_on_every_python(text: str) -> None:
    """What only some of them read is no time on any: an answer must not depend on that."""
    with pytest.raises(ValueError, match=r"not a time|must be"):
        parse_moment(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["items", "first", "byName", "messageId", "sentAt", "from"]), inner
        )
    ),
)


@given(data=json_values)
def test_garbage_is_a_protocol_error(data: object) -> None:
    """Nothing but a result or a ``ProtocolError`` comes out."""
    with suppress(ProtocolError):
        assert isinstance(structure(data, Outer, source="x"), Outer)


@pytest.mark.parametrize("kind", [Outer, Required])
def test_what_does_not_fit_keeps_no_frame(kind: type[Any], request: pytest.FixtureRequest) -> None:
    """The frames of who asked hold a client and its token: they go without the collector."""
    odd = {"message_id": ["no text"]}
    gone: list[weakref.ref[Text]] = []

    def read() -> None:
        held = Text(value="a client")
        gone.append(weakref.ref(held))
        with suppress(ProtocolError):
            structure({"items": [odd], "by_name": {"a": odd}, "first": odd}, kind, source="x")

    request.addfinalizer(gc.enable)
    gc.disable()
    read()
    assert [each() for each in gone] == [None]
