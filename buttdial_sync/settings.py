"""Settings from the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, cast, get_args

import attrs

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError, ConfigError
from buttdial_sync.errors.scrubbing import masked, masked_items

logger = logging.getLogger("buttdial_sync.settings")

S = TypeVar("S", bound="Settings")
TokenIn = Literal["auto", "header", "query"]
SendVia = Literal["stream", "rest", "auto"]


@attrs.frozen(kw_only=True)
class Settings:
    """
    The settings of the environment; None for those that it does not have.

    Attributes:
        base_url: ``BUTT_DIAL_BASE_URL``, else ``BUTT_DIAL_URL``.
        agent_id: ``BUTT_DIAL_AGENT_ID``.
        agent_token: ``BUTT_DIAL_AGENT_TOKEN``.
        team_token: ``BUTT_DIAL_TEAM_TOKEN``.
        token_in: ``BUTT_DIAL_TOKEN_IN``: ``"auto"``, ``"header"`` or ``"query"``.
        send_via: ``BUTT_DIAL_SEND_VIA``: ``"stream"``, ``"rest"`` or ``"auto"``.
        ca_bundle: ``BUTT_DIAL_CA_BUNDLE``: a path.
        client_cert: ``BUTT_DIAL_CLIENT_CERT``: the path of one file with certificate and key.
    """

    base_url: str | None = None
    agent_id: str | None = None
    agent_token: str | None = attrs.field(default=None, repr=False, converter=masked)
    team_token: str | None = attrs.field(default=None, repr=False, converter=masked)
    token_in: TokenIn | None = None
    send_via: SendVia | None = None
    ca_bundle: str | None = None
    client_cert: str | None = None

    def filled_from(self: S, other: Settings) -> S:  # noqa: PYI019 - Self comes with Python 3.11
        """Return these settings, with those of ``other`` where these have none."""
        missing = {
            field.name: getattr(other, field.name)
            for field in attrs.fields(Settings)
            if getattr(self, field.name) is None
        }
        return attrs.evolve(self, **missing)

    def for_client(self, **overrides: Any) -> dict[str, Any]:
        """Return the arguments of a :class:`Client`; ``overrides`` win."""
        return {
            "base_url": self.base_url,
            "agent_id": self.agent_id,
            "agent_token": self.agent_token,
            "token_in": self.token_in or "auto",
            "send_via": self.send_via or "stream",
            "ca_bundle": self.ca_bundle,
            "client_cert": self.client_cert,
            **overrides,
        }

    def for_accounts(self, **overrides: Any) -> dict[str, Any]:
        """Return the arguments of an :class:`AccountsClient`; ``overrides`` win."""
        return {
            "base_url": self.base_url,
            "team_token": self.team_token,
            "ca_bundle": self.ca_bundle,
            "client_cert": self.client_cert,
            **overrides,
        }


_VARIABLES = {each.name: [f"BUTT_DIAL_{each.name.upper()}"] for each in attrs.fields(Settings)}
_VARIABLES["base_url"].append("BUTT_DIAL_URL")
VARIABLES = frozenset(name for names in _VARIABLES.values() for name in names)

_PREFIX = "BUTT"
_ALIKE = 0.93


def variables_of(environ: Mapping[str, str] | None, names: Iterable[str]) -> dict[str, str]:
    """
    Return the variables that are not blank, the tokens masked; of ``os.environ`` when None.

    Frames are shown, and they should not show the whole environment.
    """
    source = os.environ if environ is None else environ
    found = {name: source.get(name, "").strip() for name in names}
    return masked_items({name: text for name, text in found.items() if text})


def own_variables(environ: Mapping[str, str] | None) -> dict[str, str]:
    """Return the library's own variables, as :func:`variables_of`, and tell of misspelt ones."""
    source = os.environ if environ is None else environ
    found = variables_of(source, VARIABLES)
    _warn_of_misspelt(VARIABLES - found.keys(), [name for name in source if name not in VARIABLES])
    return found


def _warn_of_misspelt(missing: Collection[str], others: Iterable[str]) -> None:
    """Log what may be meant for a setting. It may also be the host's own, so it is not an error."""
    for name in others:
        if not name.startswith(_PREFIX) or name.startswith(tuple(f"{each}_" for each in missing)):
            continue
        near = get_close_matches(name, missing, n=1, cutoff=_ALIKE)
        if near:
            logger.warning("%s is not a setting: did you mean %s?", name, near[0])


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """
    Read the settings.

    Args:
        environ: Where to look; ``os.environ`` when None. Blank values count as absent.

    Returns:
        The settings found.

    Raises:
        ConfigError: ``BUTT_DIAL_TOKEN_IN`` or ``BUTT_DIAL_SEND_VIA`` has an invalid value.
    """
    environ = own_variables(environ)
    found: dict[str, Any] = {
        field: next((environ[name] for name in names if name in environ), None)
        for field, names in _VARIABLES.items()
    }
    found["token_in"] = check_token_in(found["token_in"], "BUTT_DIAL_TOKEN_IN")
    found["send_via"] = check_send_via(found["send_via"], "BUTT_DIAL_SEND_VIA")
    return Settings(**found)


def check_token_in(value: str | None, name: str) -> TokenIn | None:
    """Return ``value`` as it is, or raise :class:`ConfigError` naming ``name``."""
    if value is not None and value not in get_args(TokenIn):
        raise _wrong_value(f'{name} must be "auto", "header" or "query"', value, get_args(TokenIn))
    return cast("TokenIn | None", value)


def check_send_via(value: str | None, name: str) -> SendVia | None:
    """Return ``value`` as it is, or raise :class:`ConfigError` naming ``name``."""
    if value is not None and value not in get_args(SendVia):
        raise _wrong_value(f'{name} must be "stream", "rest" or "auto"', value, get_args(SendVia))
    return cast("SendVia | None", value)


def _wrong_value(text: str, value: object, allowed: Sequence[str]) -> ConfigError:
    near = get_close_matches(str(value), allowed, n=1)
    return ConfigError(text, remediation=f"Did you mean {near[0]!r}?" if near else None)


def check_count(value: int, name: str) -> int:
    """
    Return ``value`` if it is a whole number from 1.

    Raises:
        ArgumentTypeError: It is not a whole number.
        ArgumentValueError: It is less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"{name} must be a whole number")
    if value < 1:
        raise ArgumentValueError(f"{name} must be at least 1")
    return value
