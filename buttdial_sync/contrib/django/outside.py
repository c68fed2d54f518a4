"""Helpers for code outside of requests: commands, and handlers of pushed messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from buttdial_sync.contrib.commands import CommandFailure, failures, make_listener
from buttdial_sync.contrib.django.conf import app_settings, imported
from buttdial_sync.contrib.django.inbox import get_inbox
from buttdial_sync.contrib.django.process import get_client, get_handler
from buttdial_sync.contrib.django.store import fresh_connections
from buttdial_sync.listening.listener import Listener


@contextmanager
def command_errors() -> Iterator[None]:
    """Turn a command's failure into Django's own error."""
    try:
        with failures():
            yield
    except CommandFailure as failure:
        raise CommandError(str(failure), returncode=failure.exit_code) from failure
    except ImproperlyConfigured as error:
        raise CommandError(str(error), returncode=2) from error


def app_listener() -> Listener:
    """
    Make a listener of the settings: this process's client and handler, and the inbox.

    Raises:
        ConfigError: A setting is missing or wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    configured = app_settings()
    path = configured.on_undelivered
    on_undelivered = imported(path, "ON_UNDELIVERED") if path else None
    options = {"inbox": get_inbox(), **configured.listener}
    return make_listener(get_client(), get_handler(), fresh_connections, on_undelivered, options)
