"""Keeping tokens out of everything that a person or a log may read."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

_MASK = "***"
_SHORTEST_SECRET = 6
_IN_QUERY = re.compile(r"((?:^|[?&\s])(?:poll_)?token=)[^&\s\"']+", re.IGNORECASE)
_LOGGERS_OF_URLS = ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry")


def scrub(text: str, secrets: Iterable[str | None] = ()) -> str:
    """
    Return ``text`` without the secrets, also where they are percent-encoded.

    Secrets of a few characters stay: they hide nothing, and every text has them.
    """
    for secret in secrets:
        if secret and len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _MASK).replace(quote(secret, safe=""), _MASK)
    return _IN_QUERY.sub(rf"\1{_MASK}", text)


def scrub_all(value: Any, secrets: Collection[str | None]) -> Any:
    """Return decoded JSON with every text in it scrubbed."""
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        return {key: scrub_all(item, secrets) for key, item in value.items()}
    return [scrub_all(item, secrets) for item in value] if isinstance(value, list) else value


class _ScrubUrls(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = scrub(message)
        if clean != message:
            record.msg, record.args = clean, ()
        return True


@lru_cache(maxsize=1)
def scrub_urls_in_logs() -> None:
    """Put a filter on the loggers of urllib3 that print whole URLs. Needed once per process."""
    for name in _LOGGERS_OF_URLS:
        logging.getLogger(name).addFilter(_ScrubUrls())
