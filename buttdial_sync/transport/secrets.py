"""Keeping tokens out of the logs of urllib3, which print whole URLs."""

from __future__ import annotations

import logging

from buttdial_sync.errors.scrubbing import scrub

_LOGGERS_OF_URLS = ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry")


class _ScrubUrls(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = scrub(message)
        if clean != message:
            record.msg, record.args = clean, ()
        return True


_scrub_urls = _ScrubUrls()


def scrub_urls_in_logs() -> None:
    """Put a filter on the loggers of urllib3 that print whole URLs. Safe to call again."""
    for name in _LOGGERS_OF_URLS:
        logging.getLogger(name).addFilter(_scrub_urls)
