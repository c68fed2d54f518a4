"""The outbox and the retry loop of a Django project, made of the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction

from buttdial_sync.contrib.django.conf import app_settings, imported
from buttdial_sync.contrib.django.process import get_client
from buttdial_sync.contrib.django.repository import DatabaseRepository
from buttdial_sync.contrib.django.store import fresh_connections
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.loop import RetryLoop
from buttdial_sync.retry.outbox import Outbox

_OF_OUTBOX = ("backoff", "give_up_after", "on_dead_letter", "on_unknown")
_FUNCTIONS = ("backoff", "on_dead_letter", "pace", "token_for")


def get_repository() -> DatabaseRepository:
    """
    Return a repository of the settings. It keeps nothing itself, so each call may make another.

    Raises:
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    return DatabaseRepository(**app_settings().outbox)


def get_outbox() -> Outbox:
    """
    Return an outbox over this process's client. Each call may make another; they share the client.

    What it gives up or keeps after a first attempt goes by ``RETRY``, as in the loop.

    Its ``send_message`` raises ``RuntimeError`` inside ``transaction.atomic``: use :func:`enqueue`.

    Raises:
        ArgumentValueError: The lease is not longer than the client's timeout.
        ConfigError: A setting is missing or wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    configured = _configured()
    options = {name: configured[name] for name in _OF_OUTBOX if name in configured}
    return Outbox(get_client(), get_repository(), **options)


def enqueue(
    to: str,
    body: str | None = None,
    channel: str = "whatsapp",
    *,
    after_commit: Callable[[FailedMessage], object] | None = None,
    **content: Any,
) -> FailedMessage:
    """
    Write a message inside the host's transaction; it is sent if that commits.

    ``manage.py buttdial_retry`` sends it, or Celery's sweep. Calling it twice sends two messages.

    Args:
        to: E.164 number or email address.
        body: The text.
        channel: ``"whatsapp"``, ``"sms"``, ``"email"`` or ``"line"``.
        after_commit: Called with the message once it is committed, as Celery's ``deliver_soon`` to
            send it at once. Its exceptions are logged: the row is stored, and a sweep will find it.
        **content: As in :meth:`~buttdial_sync.Outbox.enqueue`.

    Returns:
        The message as it was written.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: An argument has an invalid value.
    """
    message = get_outbox().enqueue(to, body, channel, **content)
    if after_commit is not None:
        # Django names what failed by its __qualname__, which a partial lacks.
        def announce() -> None:
            after_commit(message)

        transaction.on_commit(announce, using=get_repository().alias, robust=True)
    return message


def make_retry_loop(**options: Any) -> RetryLoop:
    """
    Make a retry loop of the settings, which lets go of stale database connections.

    Args:
        **options: Arguments of :class:`~buttdial_sync.RetryLoop`, which win over the settings.

    Raises:
        ArgumentValueError: An argument is wrong, or the lease is not longer than the timeout.
        ConfigError: A setting is missing or wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    return RetryLoop(
        get_repository(),
        get_client(),
        **{"around_pass": fresh_connections, **_configured(), **options},
    )


def _configured() -> dict[str, Any]:
    """Return the arguments in ``RETRY``, with the functions that it names."""
    given = dict(app_settings().retry)
    for name in _FUNCTIONS:
        if isinstance(given.get(name), str):
            given[name] = imported(given[name], "RETRY")
    return given
