"""The setting ``BUTT_DIAL``: a dict, every key of it optional."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import attrs
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from buttdial_sync.contrib.options import nearest
from buttdial_sync.inbound.authentication import AccountSecret
from buttdial_sync.inbound.signatures import Secrets
from buttdial_sync.settings import Settings, load_settings

NAME = "BUTT_DIAL"


@attrs.frozen(kw_only=True)
class AppSettings(Settings):
    """
    ``settings.BUTT_DIAL``; keys are these names in upper case.

    Attributes:
        base_url, agent_id, agent_token, team_token, token_in: As in the environment, which is read
            for those that are missing.
        client: Further arguments of :class:`~buttdial_sync.Client`.
        accounts: Further arguments of :class:`~buttdial_sync.AccountsClient`.
        listener: Further arguments of :class:`~buttdial_sync.Listener`, for the commands.
        handler: Dotted path of the host's :class:`~buttdial_sync.InboundHandler`; without it one is
            made of the next five.
        whatsapp_verify_token, whatsapp_webhook_secret, account_webhook_secret, allow_unsigned,
            max_body_bytes: As in :class:`~buttdial_sync.InboundHandler`.
        lease: The same, in seconds.
        on_undelivered: Dotted path of a function that gets the events that ``buttdial_listen`` and
            ``buttdial_poll`` could not hand over, see :class:`~buttdial_sync.Listener`, and those
            that cannot be read, see :meth:`~buttdial_sync.InboundHandler.on_unreadable`.
        agent_directory: Dotted path of an :class:`~buttdial_sync.AgentDirectory`, or of what makes
            one, for the operator API.
        failed_messages: The same for an :class:`~buttdial_sync.AdminFailedMessageRepository`.
        operator_permission: Dotted path of a function that gets a request and returns True if it
            may use the operator API; any other value is a no. When absent, active staff with the
            permissions ``view_outboxmessage`` (to read) and ``change_outboxmessage`` (to change
            something).
        inbox: Arguments of :class:`~buttdial_sync.contrib.django.inbox.DatabaseInbox`, where
            ``buttdial_listen`` and ``buttdial_poll`` write what comes in; False: in memory only.
        deferred: Whether webhooks only write to the inbox; see
            :class:`~buttdial_sync.InboundHandler`.
        outbox: Arguments of :class:`~buttdial_sync.contrib.django.repository.DatabaseRepository`.
        retention_days: After how many days ``buttdial_purge`` deletes what is resolved; 30 when
            absent. Without that command only the events of the inbox that were handled or
            dismissed are deleted, by ``buttdial_listen`` and ``buttdial_poll``, after its
            ``keep_for`` (a week), and the remembered deliveries, after a week.
        retry: Further arguments of :class:`~buttdial_sync.RetryLoop`; functions may be dotted
            paths.
        ailoop: Arguments of :class:`~buttdial_sync.ailoop.AiloopClient`; ``AILOOP_SERVER``,
            ``AILOOP_CHANNEL`` and ``AILOOP_TOKEN`` of the environment for those that are missing.
        questions: Arguments of :class:`~buttdial_sync.contrib.django.questions.DatabaseQuestions`.
        on_answer: Dotted path of the function that ``buttdial_ailoop`` gives each
            :class:`~buttdial_sync.ailoop.AnsweredQuestion`.
    """

    client: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    accounts: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    listener: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    handler: str | None = None
    whatsapp_verify_token: str | None = attrs.field(default=None, repr=False)
    whatsapp_webhook_secret: Secrets | None = attrs.field(default=None, repr=False)
    account_webhook_secret: AccountSecret | None = attrs.field(default=None, repr=False)
    allow_unsigned: Collection[str] = ()
    max_body_bytes: int | None = None
    lease: float | None = None
    on_undelivered: str | None = None
    agent_directory: str | None = None
    failed_messages: str | None = None
    operator_permission: str | None = None
    inbox: Mapping[str, Any] | Literal[False] = attrs.field(factory=dict)
    deferred: bool = False
    outbox: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    retention_days: float = 30.0
    retry: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    ailoop: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    questions: Mapping[str, Any] = attrs.field(factory=dict)
    on_answer: str | None = None


KEYS = frozenset(field.name.upper() for field in attrs.fields(AppSettings))
_OPTIONS = frozenset(
    {"CLIENT", "ACCOUNTS", "LISTENER", "INBOX", "OUTBOX", "RETRY", "AILOOP", "QUESTIONS"}
)


def app_settings() -> AppSettings:
    """
    Read the setting, and the environment for the keys that it lacks.

    Raises:
        ImproperlyConfigured: It is not a dict, has unknown keys, or an option that is not a dict.
        ConfigError: ``BUTT_DIAL_TOKEN_IN`` has an invalid value.
    """
    given = getattr(settings, NAME, {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{NAME} must be a dict")
    unknown = set(given) - KEYS
    if unknown:
        named = (f"{key!r}{nearest(key, KEYS)}" for key in sorted(unknown, key=str))
        raise ImproperlyConfigured(f"{NAME} has unknown keys: {', '.join(named)}")
    for key in given.keys() & _OPTIONS:
        is_off = given[key] is None or (key == "INBOX" and given[key] is False)
        if not is_off and not isinstance(given[key], Mapping):
            raise ImproperlyConfigured(f"{NAME}[{key!r}] must be a dict")
    values = {name.lower(): value for name, value in given.items() if value is not None}
    return AppSettings(**values).filled_from(load_settings())


def imported(path: str, key: str) -> Any:
    """
    Import the object that a setting names.

    Raises:
        ImproperlyConfigured: It cannot be imported.
    """
    try:
        return import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"{NAME}[{key!r}] cannot be imported: {error}") from error
