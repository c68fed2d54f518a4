"""How far ``onboard`` is, in files that only their owner can read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.scrubbing import masked
from buttdial_sync.stores.private_file import replace_private_file

_FIRST_LINE = "# Written by buttdial-sync onboard. Keep it secret."


def _secret() -> Any:
    return attrs.field(default=None, repr=False, converter=masked)


@attrs.define(kw_only=True)
class Onboarding:
    """
    A workspace, its agent and its first message, as far as they are known.

    Keys and ids are here before the request that uses them is sent, so that a run after a crash
    repeats the request and not the registration.

    Attributes:
        base_url: The server.
        org_name, owner_email: What the workspace is registered under; None for one that exists.
        register_key: The idempotency key of the registration.
        org_id, poll_token, webhook_secret: What the server answered.
        session_id: The session in which the terms have to be accepted, while they have to be.
        team_token: The workspace's token.
        phone, phone_confirmed: The workspace's phone.
        challenge_id, phone_hint: The passcode that somebody has to type.
        agent_id, agent_name, agent_key, agent_token: The agent.
        has_own_agent_id: The agent's id was made here, so nobody else can have registered it.
        channel: The channel that the agent has.
        wanted_channel: The channel that was asked for; the answer may be lost.
        message_key, message_sid: The first message.
    """

    base_url: str
    org_name: str | None = None
    owner_email: str | None = None
    register_key: str | None = None
    org_id: str | None = None
    poll_token: str | None = _secret()
    webhook_secret: str | None = _secret()
    session_id: str | None = _secret()
    team_token: str | None = _secret()
    phone: str | None = None
    phone_confirmed: bool = False
    challenge_id: str | None = None
    phone_hint: str | None = None
    agent_id: str | None = None
    has_own_agent_id: bool = False
    agent_name: str | None = None
    agent_key: str | None = None
    agent_token: str | None = _secret()
    channel: str | None = None
    wanted_channel: str | None = None
    message_key: str | None = None
    message_sid: str | None = None

    @property
    def step(self) -> str:
        """The step that comes next."""
        steps = (
            ("account", self.org_id or self.team_token),
            ("verification", self.team_token),
            ("phone", self.phone_confirmed or not self.challenge_id),
            ("agent", self.agent_token),
            ("channel", self.channel),
            ("message", self.message_sid or not self.message_key),
        )
        return next((name for name, is_done in steps if not is_done), "done")

    def environment(self) -> str:
        """Return the settings for programs, as lines of a shell or of ``.env``."""
        values = {
            "BUTT_DIAL_BASE_URL": self.base_url,
            "BUTT_DIAL_TEAM_TOKEN": self.team_token,
            "BUTT_DIAL_AGENT_ID": self.agent_id,
            "BUTT_DIAL_AGENT_TOKEN": self.agent_token,
        }
        lines = [f"{name}={shlex.quote(value)}" for name, value in values.items() if value]
        return "\n".join((_FIRST_LINE, *lines, ""))


@attrs.frozen
class OnboardingFile:
    """
    The file of an onboarding, and the file of settings that it results in.

    Attributes:
        path: Where the state is.
        settings: Where the settings for programs go.
    """

    path: Path
    settings: Path

    def load(self) -> Onboarding | None:
        """
        Return what is kept; None if there is nothing.

        Raises:
            ConfigError: The file is not one of this program, or cannot be read.
        """
        try:
            kept: Mapping[str, Any] = json.loads(self.path.read_text("utf-8"))
            return Onboarding(**kept)
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{self.path} cannot be used: {type(error).__name__}",
                remediation="Give another file with --state, or make this one readable.",
            ) from None

    def save(self, state: Onboarding) -> None:
        """
        Keep the state, and the settings if there is a token.

        Raises:
            ConfigError: A file cannot be written, or the settings' file is somebody else's.
        """
        _write(self.path, json.dumps(attrs.asdict(state), indent=2))
        if state.team_token or state.agent_token:
            self.check_settings()
            _write(self.settings, state.environment())

    def check_settings(self) -> None:
        """
        Refuse to replace a file of settings that somebody else has written.

        Raises:
            ConfigError: It is there, and not of this program.
        """
        if self.settings.exists() and not self._is_ours():
            raise ConfigError(
                f"{self.settings} is there already, and was not written by this command",
                remediation="Give another file with --env-file.",
            )

    def _is_ours(self) -> bool:
        try:
            return self.settings.read_text("utf-8").startswith(_FIRST_LINE)
        except (OSError, UnicodeDecodeError):
            return False


def _write(path: Path, text: str) -> None:
    try:
        replace_private_file(path, text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {type(error).__name__}",
            remediation="Run it in a directory that you may write to, or give another file.",
        ) from None
