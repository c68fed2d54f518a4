"""
Recipients: checked before anything is sent, because servers take any text and say "sent".

The rules are loose where a server may know more than this library: what came in as the sender or
the group of a message passes as it is.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from buttdial_sync.errors import ArgumentValueError, ConfigError

_CODE = "INVALID_RECIPIENT"
_SEPARATORS = re.compile(r"[\s.()/\u00a0\u2010-\u2015-]+")
_INTERNATIONAL = re.compile(r"\+[0-9]{1,15}")
_SHORT_CODE = re.compile(r"[1-9][0-9]{2,7}")
_DIGITS = re.compile(r"\+?[0-9]+")
_PLAIN_NUMBERS = {
    "sms": _SHORT_CODE,
    "whatsapp": re.compile(r"[1-9][0-9]{6,14}"),  # as its webhooks write a sender
    "voice": _SHORT_CODE,
}
# 120363025246125486@g.us, or an opaque text as in the Cloud API: long, with letters and digits.
_WHATSAPP_ID = re.compile(r"[\w.:-]+@(g\.us|c\.us|lid|s\.whatsapp\.net)|(?=.*[0-9])[\w=:+/-]{20,}")
_NAME_AND_ADDRESS = re.compile(r"[^<>\r\n]*<([^<>]*)>")
_EXAMPLE = "Write the number with its country code, as in +14155550123."


@attrs.frozen(kw_only=True)
class RecipientCheck:
    """
    How recipients are checked. Safe to share between threads.

    Attributes:
        is_on: False takes every text as it is.
        default_region: The country of numbers without a country code, as in ``"AU"``; they are
            refused when None. It needs the ``phonenumbers`` extra, which knows how long the numbers
            of each country are.
    """

    is_on: bool = True
    default_region: str | None = attrs.field(default=None)

    @default_region.validator
    def _check_region(self, _: object, region: str | None) -> None:
        if region is None:
            return
        if region not in _phonenumbers().SUPPORTED_REGIONS:
            raise ConfigError(
                f"default_region {region!r} is not a country",
                remediation="Give its two capital letters, as in 'AU'.",
            )

    def normalized(self, to: str, channel: str) -> str:
        """
        Return a recipient as the server takes it.

        That is a number without spaces, dots, dashes and brackets, and the bare address of an
        email: servers compare it with their lists letter by letter.

        Args:
            to: The recipient.
            channel: ``"whatsapp"``, ``"sms"``, ``"email"``, ``"voice"``; the ids of any other
                channel are not checked.

        Raises:
            ArgumentValueError: The channel cannot reach it. The message says what to write.
        """
        if not self.is_on:
            return to
        if channel == "email":
            return _email_address(to)
        if channel not in _PLAIN_NUMBERS:
            return to
        if channel == "whatsapp" and _WHATSAPP_ID.fullmatch(to.strip()):
            return to.strip()
        return self._number(to, channel)

    def _number(self, to: str, channel: str) -> str:
        number = _SEPARATORS.sub("", to)
        if "@" in number:
            raise _refusal(f"to is an email address, and channel is {channel!r}", _EXAMPLE)
        if not _DIGITS.fullmatch(number):
            raise _refusal(f"to is not a phone number: {to!r}", _EXAMPLE)
        if _PLAIN_NUMBERS[channel].fullmatch(number):
            return number
        if self.default_region is not None:
            return _by_numbering_plan(to, self.default_region)
        if _INTERNATIONAL.fullmatch(number):
            return number
        if number.startswith("00"):
            raise _refusal(f"to begins with 00: {to!r}", f"Write +{number[2:]}.")
        if number.startswith("0"):
            raise _refusal(
                f"to has no country code: {to!r}",
                f"{_EXAMPLE} Or give default_region to the client.",
            )
        if number.startswith("+"):
            raise _refusal(f"to has more than 15 digits: {to!r}", _EXAMPLE)
        raise _refusal(f"to has no country code: {to!r}", f"Write +{number}, if that is one.")


def _email_address(to: str) -> str:
    # Not email.utils.parseaddr(): of "Bcc: eve@x.example <ann@x.example>" it returns the first one.
    named = _NAME_AND_ADDRESS.fullmatch(to.strip())
    address = named[1].strip() if named else to.strip()
    name, at, domain = address.rpartition("@")
    if name and domain and not re.search(r"[\s<>,;]", address):
        return address
    if at:
        raise _refusal(f"to is not an email address: {to!r}", "Write it as in ann@example.com.")
    raise _refusal(
        f"to is not an email address, and channel is 'email': {to!r}",
        "Write one as in ann@example.com, or give another channel.",
    )


def _by_numbering_plan(to: str, region: str) -> str:
    phonenumbers = _phonenumbers()
    try:
        number = phonenumbers.parse(to, region)
        # What is "valid" changes with each edition of the plans; "possible" means the right length.
        if phonenumbers.is_possible_number(number):
            return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    except phonenumbers.NumberParseException:
        pass
    raise _refusal(f"to is not a number of {region} or with a country code: {to!r}", _EXAMPLE)


def _phonenumbers() -> Any:
    try:
        import phonenumbers
    except ImportError:
        raise ConfigError(
            "default_region needs the phonenumbers package",
            remediation="pip install 'buttdial-sync[phonenumbers]'",
        ) from None
    return phonenumbers


def _refusal(message: str, remediation: str) -> ArgumentValueError:
    return ArgumentValueError(message, code=_CODE, remediation=remediation)
