"""System checks: settings of ``BUTT_DIAL`` that are missing or contradict each other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from buttdial_sync.accounts.client import AccountsClient
from buttdial_sync.client import Client
from buttdial_sync.contrib.django.conf import NAME, AppSettings, app_settings, imported
from buttdial_sync.contrib.django.inbox import DatabaseInbox, get_inbox
from buttdial_sync.contrib.django.outbox import get_repository, make_retry_loop
from buttdial_sync.contrib.django.process import (
    get_accounts,
    get_client,
    get_handler,
    make_ailoop,
)
from buttdial_sync.contrib.django.questions import DatabaseQuestions, get_questions
from buttdial_sync.contrib.django.repository import DatabaseRepository
from buttdial_sync.contrib.options import unknown_options
from buttdial_sync.errors import ConfigError
from buttdial_sync.listening.listener import Listener
from buttdial_sync.retry.loop import RetryLoop

_LABEL = "buttdial_sync"
_MODEL = "outboxmessage"
_SECRETS = (
    "agent_token",
    "team_token",
    "whatsapp_verify_token",
    "whatsapp_webhook_secret",
    "account_webhook_secret",
)
_FUNCTIONS = ("ON_ANSWER", "ON_UNDELIVERED", "OPERATOR_PERMISSION")


@register(_LABEL)
def check_settings(app_configs: object, **_: Any) -> list[CheckMessage]:
    """Check the setting ``BUTT_DIAL``. Nothing is sent."""
    try:
        configured = app_settings()
    except (ImproperlyConfigured, ConfigError) as error:
        return [checks.Error(str(error), id=f"{_LABEL}.E001")]
    return [
        *_check_server(configured),
        *_check_agent_token(configured),
        *_check_handler(configured),
        *_check_secrets(configured),
        *_check_spelling(configured),
        *_check_what_is_kept(configured),
        *_check_ailoop(configured),
        *_check_paths(configured),
        *_check_options(configured),
    ]


@register(_LABEL)
def check_databases(app_configs: object, **_: Any) -> list[CheckMessage]:
    """Refuse databases on which leases, fences or claims do not hold. Nothing is connected to."""
    elsewhere = (
        "Route the app buttdial_sync to another database. If none of its tables is there, list "
        "this check in SILENCED_SYSTEM_CHECKS."
    )
    ours = [each for each in connections if router.allow_migrate(each, _LABEL, model_name=_MODEL)]
    mysql = [
        _error(
            "E007",
            f"the database {alias!r} is MySQL or MariaDB, which the tables do not support",
            f"PostgreSQL and SQLite are supported. {elsewhere}",
        )
        for alias in ours
        if connections[alias].vendor == "mysql"
    ]
    not_committed = [
        _error(
            "E011",
            f"the database {alias!r} has AUTOCOMMIT off: other processes would not see a claim",
            f"Leave it on, and use transaction.atomic. {elsewhere}",
        )
        for alias in ours
        if not connections[alias].settings_dict["AUTOCOMMIT"]
    ]
    return [*mysql, *not_committed]


def _check_server(configured: AppSettings) -> Iterator[CheckMessage]:
    if not (configured.base_url or "base_url" in configured.client):
        yield _warning(
            "W001",
            "no server is configured",
            f"Set {NAME}['BASE_URL'] or the environment's BUTT_DIAL_BASE_URL.",
        )


def _check_agent_token(configured: AppSettings) -> Iterator[CheckMessage]:
    """Say that the client's own agent has no token; rows of the outbox may have their own."""
    has_token = configured.agent_token or configured.client.get("agent_token")
    if not (has_token or "token_for" in configured.retry or configured.outbox.get("keep_tokens")):
        yield _warning(
            "W004",
            "no agent token is configured",
            f"Set {NAME}['AGENT_TOKEN'] or the environment's BUTT_DIAL_AGENT_TOKEN. A project that "
            "only receives webhooks, or gives a token with each call, needs none: list this check "
            "in SILENCED_SYSTEM_CHECKS.",
        )


def _check_handler(configured: AppSettings) -> Iterator[CheckMessage]:
    try:
        get_handler()
    except (ImproperlyConfigured, ConfigError) as error:
        yield _error("E002", str(error))


def _check_secrets(configured: AppSettings) -> Iterator[CheckMessage]:
    secrets = {
        "whatsapp": configured.whatsapp_webhook_secret,
        "account": configured.account_webhook_secret,
    }
    for channel, secret in secrets.items():
        if secret and channel in configured.allow_unsigned:
            yield _error(
                "E003",
                f"ALLOW_UNSIGNED names {channel!r}, which has a secret",
                "Remove one of the two; the secret wins.",
            )
    if bool(configured.whatsapp_webhook_secret) != bool(configured.whatsapp_verify_token):
        yield _warning(
            "W002",
            "only one of WHATSAPP_WEBHOOK_SECRET and WHATSAPP_VERIFY_TOKEN is set",
            "WhatsApp subscribes with the token and signs with the secret: set both.",
        )
    if not _receives(configured):
        yield _warning(
            "W003",
            "every webhook is refused: no secret is configured",
            "Set WHATSAPP_WEBHOOK_SECRET or ACCOUNT_WEBHOOK_SECRET, or name the channels in "
            "ALLOW_UNSIGNED.",
        )


def _receives(configured: AppSettings) -> bool:
    secrets = configured.whatsapp_webhook_secret or configured.account_webhook_secret
    return bool(secrets or configured.allow_unsigned or configured.handler)


def _check_spelling(configured: AppSettings) -> Iterator[CheckMessage]:
    """Name secrets that protect nothing, or that a file's last line break has made others."""
    for name in _SECRETS:
        given = getattr(configured, name)
        several = given if isinstance(given, list | tuple) else [given]
        for secret in (each for each in several if isinstance(each, str)):
            if not secret:
                yield _warning(
                    "W005",
                    f"{name.upper()} is empty",
                    "An empty secret counts as none. Remove the key, or look where the value "
                    "comes from.",
                )
            elif secret != secret.strip():
                yield _warning(
                    "W006",
                    f"{name.upper()} begins or ends with white space",
                    "No signature is right with it. A file that holds a secret often ends with a "
                    "line break: strip() it.",
                )


def _check_what_is_kept(configured: AppSettings) -> Iterator[CheckMessage]:
    receives = _receives(configured)
    if receives and configured.inbox is False:
        yield _warning(
            "W009",
            "the inbox is switched off",
            "A process that is killed loses what it has read from the waiting queue. Remove "
            f"{NAME}['INBOX'], or list this check in SILENCED_SYSTEM_CHECKS.",
        )
    if receives and not configured.on_undelivered:
        yield _warning(
            "W007",
            "nobody keeps the events that cannot be handed over",
            f"Set {NAME}['ON_UNDELIVERED'] to the path of a function that writes them down.",
        )
    if configured.outbox.get("keep_tokens"):
        yield _warning(
            "W008",
            "the rows of the outbox keep agents' tokens, as plain text",
            f"Give {NAME}['RETRY'] a token_for that finds an agent's token instead, or list this "
            "check in SILENCED_SYSTEM_CHECKS.",
        )


def _check_ailoop(configured: AppSettings) -> Iterator[CheckMessage]:
    if not (configured.ailoop or configured.on_answer):
        return
    try:
        make_ailoop().close()  # it connects on first use only
    except (ImproperlyConfigured, ConfigError) as error:
        yield _error("E008", f"AILOOP: {error}")
    if not configured.on_answer:
        yield _warning(
            "W010",
            "nobody gets the answers of ailoop",
            f"Set {NAME}['ON_ANSWER'] to the path of a function, and run buttdial_ailoop. A "
            "project that only waits for answers needs none: list this check in "
            "SILENCED_SYSTEM_CHECKS.",
        )


def _check_paths(configured: AppSettings) -> Iterator[CheckMessage]:
    if bool(configured.agent_directory) != bool(configured.failed_messages):
        yield _error(
            "E004",
            "only one of AGENT_DIRECTORY and FAILED_MESSAGES is set",
            "The operator API needs both.",
        )
    for key in ("AGENT_DIRECTORY", "FAILED_MESSAGES", *_FUNCTIONS):
        path = getattr(configured, key.lower())
        if path:
            yield from _check_path(key, path)


def _check_options(configured: AppSettings) -> Iterator[CheckMessage]:
    """Bind the options to what takes them; if all names are right, make it, which sends nothing."""
    takers: dict[str, Callable[..., Any]] = {
        "CLIENT": Client,
        "ACCOUNTS": AccountsClient,
        "LISTENER": Listener,
        "OUTBOX": DatabaseRepository,
        "RETRY": RetryLoop,
        "INBOX": DatabaseInbox,
        "QUESTIONS": DatabaseQuestions,
    }
    wrong = [
        _option_error("E009", key, told)
        for key, taker in takers.items()
        for told in unknown_options(_options(configured, key), taker)
    ]
    yield from wrong or _check_values(configured)


def _options(configured: AppSettings, key: str) -> Mapping[str, Any]:
    return getattr(configured, key.lower()) or {}


def _check_values(configured: AppSettings) -> Iterator[CheckMessage]:
    makers: dict[str, Callable[[], Any]] = {
        "OUTBOX": get_repository,
        "INBOX": get_inbox,
        "QUESTIONS": get_questions,
    }
    if configured.base_url or "base_url" in configured.client:
        makers |= {"CLIENT": get_client, "ACCOUNTS": get_accounts, "RETRY": make_retry_loop}
    wrong = {key: told for key, make in makers.items() if (told := _refusal(make))}
    for key in ("OUTBOX", "INBOX", "QUESTIONS"):
        alias = _options(configured, key).get("using")
        if alias is not None and alias not in connections:
            wrong[key] = f"there is no database {alias!r}"
    if "CLIENT" in wrong or "OUTBOX" in wrong:
        wrong.pop("RETRY", None)  # it is made of these two
    for key, told in wrong.items():
        yield _option_error("E010", key, told)


def _refusal(make: Callable[[], Any]) -> str | None:
    try:
        make()
    except (ConfigError, ImproperlyConfigured, TypeError, ValueError) as error:
        return str(error)
    return None


def _check_path(key: str, path: str) -> Iterator[CheckMessage]:
    try:
        found = imported(path, key)
    except ImproperlyConfigured as error:
        yield _error("E005", str(error))
    else:
        if key in _FUNCTIONS and not callable(found):
            yield _error("E006", f"{key} must name a function")
        elif key in _FUNCTIONS and inspect.iscoroutinefunction(found):
            yield _error("E006", f"{key} must name a plain function, not a coroutine")


def _error(number: str, message: str, hint: str | None = None) -> CheckMessage:
    return checks.Error(f"{NAME}: {message}", hint=hint, id=f"{_LABEL}.{number}")


def _option_error(number: str, key: str, message: str) -> CheckMessage:
    return checks.Error(f"{NAME}[{key!r}]: {message}", id=f"{_LABEL}.{number}")


def _warning(number: str, message: str, hint: str) -> CheckMessage:
    return checks.Warning(f"{NAME}: {message}", hint=hint, id=f"{_LABEL}.{number}")
