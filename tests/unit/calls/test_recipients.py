"""Recipients: what passes, how it is written, and what to write instead of what does not."""

from __future__ import annotations

import re
import sys

import pytest

from buttdial_sync.calls.recipients import RecipientCheck
from buttdial_sync.errors import ArgumentValueError, ConfigError

CHECK = RecipientCheck()
OPAQUE_GROUP = "Y2FwaV9ncm91cDoxOTUwNTU1MDA3OjEyMDM2MzM5NDAz"


@pytest.mark.parametrize("channel", ["whatsapp", "sms", "voice"])
@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("+14155550123", "+14155550123"),
        ("+1", "+1"),
        ("+123456789012345", "+123456789012345"),
        (" +1 (415) 555-0123 ", "+14155550123"),
        ("+1.415.555.0123", "+14155550123"),
        ("+41\u00a079\u2011555 01 23", "+41795550123"),
    ],
)
def test_numbers(channel: str, written: str, wanted: str) -> None:
    """A plus and up to 15 digits, without what people write between them."""
    assert CHECK.normalized(written, channel) == wanted


@pytest.mark.parametrize(
    ("channel", "recipient"),
    [
        ("whatsapp", "14155550123"),  # the sender of a webhook
        ("whatsapp", "1234567"),
        ("whatsapp", "123456789012345"),
        ("whatsapp", "120363025246125486@g.us"),
        ("whatsapp", "14155550123-1612345678@g.us"),
        ("whatsapp", OPAQUE_GROUP),
        ("sms", "246"),
        ("sms", "12345678"),
        ("email", "ann@example.com"),
        ("email", "ann+orders@münchen.example"),
        ("line", "U4af4980629deadbeef"),
        ("line", "hello"),
        ("a new channel", "anything"),
    ],
)
def test_other_recipients(channel: str, recipient: str) -> None:
    """Ids as they come in, short codes and addresses pass as they are."""
    assert CHECK.normalized(recipient, channel) == recipient


@pytest.mark.parametrize(
    "written",
    [
        "ann@example.com",
        " ann@example.com\n",
        "Ann Example <ann@example.com>",
        '"Example, Ann" < ann@example.com >',
        "Bcc: eve@example.com <ann@example.com>",
        "<ann@example.com>",
    ],
)
def test_email_addresses(written: str) -> None:
    """The bare address, which servers compare with their lists; no name, and no header."""
    assert CHECK.normalized(written, "email") == "ann@example.com"


@pytest.mark.parametrize(
    ("channel", "recipient", "message", "advice"),
    [
        ("whatsapp", "hello", "not a phone number", r"\+14155550123"),
        ("sms", "hello", "not a phone number", r"\+14155550123"),
        ("sms", "+1415555012three", "not a phone number", "country code"),
        ("sms", "++14155550123", "not a phone number", "country code"),
        ("sms", "\u0664\u0665\u0666", "not a phone number", "country code"),
        ("sms", "", "not a phone number", "country code"),
        ("whatsapp", "0415 555", "no country code", "default_region"),
        ("sms", "0415 555 012", "no country code", "default_region"),
        ("voice", "0415 555 012", "no country code", "default_region"),
        ("sms", "004179 555 01 23", "begins with 00", r"Write \+41795550123\."),
        ("sms", "14155550123", "no country code", r"Write \+14155550123, if"),
        ("sms", "12", "no country code", r"Write \+12, if"),
        ("whatsapp", "123456", "no country code", "Write"),
        ("whatsapp", "1234567890123456", "no country code", "Write"),
        ("sms", "+1234567890123456", "more than 15 digits", "country code"),
        ("sms", "ann@example.com", "channel is 'sms'", "country code"),
        ("sms", "120363025246125486@g.us", "channel is 'sms'", "country code"),
        ("whatsapp", "ann@example.com", "channel is 'whatsapp'", "country code"),
        ("email", "+14155550123", "channel is 'email'", "another channel"),
        ("email", "hello", "channel is 'email'", "ann@example.com"),
        ("email", "ann@", "not an email address", "^Write it as in ann@example.com.$"),
        ("email", "@example.com", "not an email address", "ann@example.com"),
        ("email", "ann@example.com, bob@example.com", "not an email address", "ann@example"),
        ("email", "Ann\nBcc: eve@example.com <ann@example.com>", "not an email", "ann@example"),
        ("email", '"Ann\r" <ann@example.com>', "not an email address", "ann@example"),
        ("email", "ann@example.com\nBcc: eve@example.com", "not an email", "ann@example"),
        ("email", "<ann@example.com> <bob@example.com>", "not an email", "ann@example"),
        ("email", "a nn@example.com", "not an email address", "ann@example"),
    ],
)
def test_what_a_channel_cannot_reach(
    channel: str, recipient: str, message: str, advice: str
) -> None:
    """It is refused for good, with what to write."""
    with pytest.raises(ArgumentValueError, match=message) as caught:
        CHECK.normalized(recipient, channel)
    assert caught.value.code == "INVALID_RECIPIENT"
    assert caught.value.cured_by == "nothing"
    assert re.search(advice, str(caught.value.remediation))


def test_unchecked() -> None:
    """Everything passes as it is where the caller wants no check."""
    assert RecipientCheck(is_on=False).normalized(" hello ", "sms") == " hello "


@pytest.mark.parametrize(
    ("channel", "written", "wanted"),
    [
        ("sms", "0412 345 678", "+61412345678"),
        ("sms", "(02) 9876 5432", "+61298765432"),
        ("sms", "+1 415 555 0123", "+14155550123"),
        ("sms", "12345", "12345"),
        ("voice", "0011 1 415 555 0123", "+14155550123"),
        ("whatsapp", "14155550123", "14155550123"),
    ],
)
def test_numbers_of_a_country(channel: str, written: str, wanted: str) -> None:
    """With a region, national numbers get its country code; ids and short codes stay."""
    assert RecipientCheck(default_region="AU").normalized(written, channel) == wanted


@pytest.mark.parametrize("written", ["0412", "+61", "0412 345 678 901 234", "hello"])
def test_a_number_that_no_country_has(written: str) -> None:
    """With a region, the length is checked as well."""
    with pytest.raises(ArgumentValueError, match=r"^to is not a"):
        RecipientCheck(default_region="AU").normalized(written, "sms")


def test_a_region_that_does_not_exist() -> None:
    """It is refused when the client is made, not at the first send."""
    with pytest.raises(ConfigError, match="'Australia' is not a country"):
        RecipientCheck(default_region="Australia")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(ConfigError) as caught:
        RecipientCheck(default_region="AU")
    assert caught.value.remediation == "pip install 'buttdial-sync[phonenumbers]'"
