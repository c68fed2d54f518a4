"""Reading HTTP answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import requests

from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ButtDialError,
    error_from_response,
)
from buttdial_sync.errors.answers import Exchange
from buttdial_sync.errors.scrubbing import scrub

logger = logging.getLogger("buttdial_sync.http")

_FEW_ATTEMPTS = 3


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """
    Return the JSON of an object, compact and in UTF-8.

    Raises:
        ArgumentTypeError: It holds something that JSON has no word for.
        ArgumentValueError: It holds a text that is no Unicode, or itself.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except TypeError as error:
        raise ArgumentTypeError(f"the arguments make no JSON: {error}") from None
    except (ValueError, RecursionError):
        raise ArgumentValueError("the arguments make no JSON: no Unicode, or a circle") from None


def decoded(content: bytes, *secrets: str | None) -> Any:
    """Return an answer's JSON, or its text where it is none; the secrets in neither."""
    return decoded_text(scrub(content.decode("utf-8", "replace"), secrets))


def decoded_text(text: str) -> Any:
    """Return the JSON that a text holds, or the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def refusal(response: requests.Response, exchange: Exchange, *secrets: str | None) -> ButtDialError:
    """Return the exception for an answer of 4xx or 5xx, and warn of a lockout that is near."""
    error = error_from_response(
        response.status_code,
        decoded(response.content, *secrets),
        response.headers,
        exchange=exchange,
    )
    if error.remaining_attempts is not None and error.remaining_attempts <= _FEW_ATTEMPTS:
        logger.warning(
            "%d more failed logins and the server locks this address out: stop and mend the token",
            error.remaining_attempts,
        )
    return error
