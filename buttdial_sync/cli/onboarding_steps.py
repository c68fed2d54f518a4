"""The steps of ``onboard``: a workspace, an agent with a channel, a first message."""

from __future__ import annotations

import shlex
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import parse_qs, urlsplit

import attrs
import click

from buttdial_sync.cli.connection import log_event
from buttdial_sync.cli.onboarding_file import Onboarding, OnboardingFile
from buttdial_sync.cli.report import Failure, Report, described, say
from buttdial_sync.cli.status_line import ask
from buttdial_sync.errors import (
    ChallengeNotFound,
    ConfigError,
    ConflictError,
    EndpointNotAvailable,
    OnboardingRequired,
    OrgAlreadyVerified,
    OTPExpired,
    OTPInvalid,
    OTPMaxAttempts,
)
from buttdial_sync.errors.exits import UNREACHABLE, exit_code
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.settings import Settings

if TYPE_CHECKING:
    from buttdial_sync.accounts.client import AccountsClient, AccountsView
    from buttdial_sync.models.sending import SendResult

CHANNELS = {"sms": "phone", "whatsapp": "whatsapp", "email": "email", "line": "line"}
_DEFAULT_CHANNEL = "sms"


class WaitsForPerson(Exception):  # noqa: N818 - nothing failed
    """The next step needs what only a person can say, and there is no terminal to ask on."""

    def __init__(self, message: str, remediation: str) -> None:
        super().__init__(message)
        self.failure = Failure(message=message, remediation=remediation)


@attrs.frozen(kw_only=True)
class OnboardingOptions:
    """The options of the command; None for those that are absent."""

    org: str | None
    email: str | None
    product: str | None
    webhook_url: str | None
    link: str | None = attrs.field(repr=False)
    resend: bool
    accept_terms: str | None
    phone: str | None
    code: str | None = attrs.field(repr=False)
    agent_name: str | None
    agent_id: str | None
    channel: str | None
    to: str | None
    body: str | None


@attrs.frozen(eq=False, repr=False)
class OnboardingSteps:
    """One run: each step is done once, and kept before the next one begins."""

    _accounts: AccountsClient
    _settings: Settings
    _state: Onboarding
    _files: OnboardingFile
    _given: OnboardingOptions
    _asks: bool

    def to_the_end(self) -> Report:
        """Take all steps that are not taken yet."""
        if self._state.team_token is None:
            self._register()
            self._verify()
        workspace = self._accounts.with_token(self._state.team_token or "")
        self._confirm_phone(workspace)
        self._register_agent(workspace)
        self._add_channel(workspace)
        return self._send_message()

    def _register(self) -> None:
        state = self._state
        if state.org_id is not None:
            if self._given.resend:
                self._accounts.resend_verification(state.org_id)
                _tell("The mail was sent again.")
            return
        if state.register_key is None:
            state.org_name = self._needed(self._given.org, "The workspace's name", "--org")
            state.owner_email = self._needed(self._given.email, "Its owner's address", "--email")
            self._keep(register_key=str(uuid.uuid4()))
        registration = self._accounts.register(
            state.org_name or "",
            state.owner_email or "",
            branding={"productName": self._given.product or state.org_name},
            webhook_url=self._given.webhook_url,
            idempotency_key=state.register_key,
        )
        self._keep(
            org_id=registration.org_id,
            poll_token=registration.poll_token,
            webhook_secret=registration.webhook_secret,
        )
        _tell(f"Registered as {registration.org_id}; a mail goes to {state.owner_email}.")

    def _verify(self) -> None:
        state = self._state
        token = self._token_of_mail() if state.session_id is None else None
        if token is None:
            version = self._needed(
                self._given.accept_terms,
                "The version of the terms that you accept",
                "--accept-terms",
                waits_for="the terms to be accepted",
            )
            token = self._accounts.accept_onboarding(state.session_id or "", version).team_token
        self._keep(team_token=Secret(token), session_id=None)
        _tell(f"The workspace is verified; its token is in {self._files.settings}.")

    def _token_of_mail(self) -> str | None:
        """Return the workspace's token; None if the terms have to be accepted before."""
        state = self._state
        link = Secret(
            self._needed(
                self._given.link,
                "The link in that mail (copy it, do not open it)",
                "--link, or BUTT_DIAL_VERIFICATION_LINK,",
                waits_for=f"the owner's mail at {state.owner_email}",
                hidden=True,
            )
        )
        try:
            return _team_token_in(link) or self._accounts.verify(_token_in(link)).team_token
        except OrgAlreadyVerified:
            if state.org_id is None or state.webhook_secret is None:
                raise
            return self._accounts.reveal_team_token(state.org_id, state.webhook_secret).team_token
        except OnboardingRequired as required:
            if required.onboarding_session_id is None:
                raise
            self._keep(session_id=required.onboarding_session_id)
            _tell(f"The terms have to be accepted first: {required.onboarding_url}")
            return None

    def _confirm_phone(self, workspace: AccountsView) -> None:
        state, code = self._state, self._given.code
        if state.phone_confirmed:
            return
        if state.challenge_id is None:
            phone = self._given.phone or self._asked("The owner's phone (empty: later)")
            if not phone:
                return
            challenge = workspace.set_phone(phone)
            hint = challenge.phone_hint
            self._keep(phone=phone, challenge_id=challenge.challenge_id, phone_hint=hint)
            _tell(f"A passcode was sent to {hint or phone}.")
        while not state.phone_confirmed:
            typed = self._needed(code, "The passcode", "--code", waits_for="the passcode")
            try:
                workspace.confirm_phone(state.challenge_id or "", typed)
            except OTPInvalid:
                if not self._asks:
                    raise
                code = None
                _tell("That passcode is wrong.")
            except (OTPExpired, OTPMaxAttempts, ChallengeNotFound):
                self._keep(challenge_id=None)
                raise
            else:
                self._keep(phone_confirmed=True, challenge_id=None)
                _tell("The phone is confirmed.")

    def _register_agent(self, workspace: AccountsView) -> None:
        state, given = self._state, self._given
        if state.agent_token is not None:
            return
        if state.agent_id is None:
            name = self._needed(given.agent_name, "The agent's name", "--agent-name")
            self._keep(
                agent_name=name,
                agent_key=str(uuid.uuid4()),
                agent_id=given.agent_id or str(uuid.uuid4()),
                has_own_agent_id=given.agent_id is None,
            )
        if state.channel is None and state.wanted_channel is None:
            state.wanted_channel = given.channel or self._asked_for_channel()
        agent_id, name = state.agent_id or "", state.agent_name or ""
        try:
            token = self._new_agent(workspace, agent_id, name)
        except ConflictError:
            # Only an earlier run can have registered an id that was made here.
            if not state.has_own_agent_id:
                self._keep(agent_id=None)
                raise
            token = workspace.regenerate_agent_token(agent_id).agent_token
        self._keep(agent_token=Secret(token))
        _tell(f"Agent {name} is registered as {agent_id}; its token is in the same file.")

    def _new_agent(self, workspace: AccountsView, agent_id: str, name: str) -> str:
        key = self._state.agent_key
        try:
            return workspace.register_agent(agent_id, name, idempotency_key=key).agent_token
        except EndpointNotAvailable:
            # The open-source server makes an agent and its channel in one step.
            channel = CHANNELS[self._state.wanted_channel or _DEFAULT_CHANNEL]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                made = workspace.provision_channels(agent_id, name, {channel: True})
            self._state.channel = self._state.wanted_channel
            return made.agent_token

    def _add_channel(self, workspace: AccountsView) -> None:
        state = self._state
        if state.channel is not None:
            return
        channel = state.wanted_channel or _DEFAULT_CHANNEL
        on_wire = cast("Literal['phone', 'email', 'whatsapp', 'line']", CHANNELS[channel])
        agent_id = state.agent_id or ""
        # Adding twice may buy a second number: an earlier run may have lost its answer.
        found = workspace.get_agent(agent_id).get("channels") or ()
        if on_wire not in found:
            workspace.manage_agent_channel(agent_id, "add", on_wire)
        self._keep(channel=channel)
        _tell(f"It has the channel {channel}.")

    def _send_message(self) -> Report:
        state, given = self._state, self._given
        if state.message_sid is not None:
            return Report(lines=["Everything is done already."])
        to = given.to or self._asked("Who gets a first message (empty: nobody)")
        if not to:
            ready = f"Ready. In a shell: set -a; . {shlex.quote(str(self._files.settings))}"
            return Report(lines=[ready])
        from buttdial_sync.client import Client

        client_of = self._settings.for_client(
            base_url=state.base_url,
            agent_id=state.agent_id,
            agent_token=state.agent_token,
            on_event=log_event,
        )
        with Client(**client_of) as client:
            if state.message_key is not None and not client.honours_idempotency_key():
                return _may_have_been_sent("an earlier run did not see its end")
            self._keep(message_key=state.message_key or str(uuid.uuid4()))
            result = client.send_message(
                to,
                given.body or f"Hello from {state.agent_name}",
                cast("Any", state.channel or _DEFAULT_CHANNEL),
                idempotency_key=state.message_key,
            )
        return self._after(result)

    def _after(self, result: SendResult) -> Report:
        if result.ok:
            sid = result.message_sid or "sent"
            self._keep(message_sid=sid)
            return Report(lines=[f"The first message is sent: {sid}"])
        told = described(result.error or "not sent", result.error_code, result.retry_after)
        if result.unknown:
            return _may_have_been_sent(told)
        self._keep(message_key=None)  # certainly not sent: a later run may
        return Report(
            data={"error_code": result.error_code},
            failure=Failure(message=told, remediation=result.remediation),
            exit_code=exit_code(result.outcome, result.stage_failed),
        )

    def _keep(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self._state, name, value)
        self._files.save(self._state)

    def _needed(
        self,
        value: str | None,
        prompt: str,
        option: str,
        *,
        waits_for: str | None = None,
        hidden: bool = False,
    ) -> str:
        """Return what was given, or ask; where nobody can be asked, say what to give."""
        if value:
            return value
        if self._asks:
            return ask(prompt, hide_input=hidden).strip()
        if waits_for is not None:
            raise WaitsForPerson(f"waiting for {waits_for}", f"Run it again with {option}.")
        raise ConfigError(f"{prompt.lower()} is missing", remediation=f"Give {option}.")

    def _asked(self, prompt: str) -> str | None:
        """Ask for what need not be given."""
        if not self._asks:
            return None
        return ask(prompt, default="", show_default=False).strip() or None

    def _asked_for_channel(self) -> str:
        if not self._asks:
            return _DEFAULT_CHANNEL
        channels = click.Choice(list(CHANNELS))
        prompt = f"The agent's channel ({', '.join(CHANNELS)})"
        return ask(prompt, type=channels, default=_DEFAULT_CHANNEL, show_choices=False)


def _tell(text: str) -> None:
    say(text, err=True)


def _token_in(link: str) -> str:
    """Return the token of a link, or the text itself if it is not a link."""
    parts = urlsplit(link.strip())
    if not parts.scheme:
        return Secret(link.strip())
    found = parse_qs(parts.query).get("token")
    return Secret(found[0] if found else parts.path.rstrip("/").rpartition("/")[2])


def _team_token_in(link: str) -> str | None:
    """Return the workspace's token, if the link is the page that the browser ended at."""
    found = parse_qs(urlsplit(link.strip()).fragment).get("bd_token")
    return Secret(found[0]) if found else None


def _may_have_been_sent(reason: str) -> Report:
    return Report(
        data={"outcome": "unknown"},
        failure=Failure(
            message=f"the first message may have been sent: {reason}",
            remediation="Ask the recipient. If it did not arrive: buttdial-sync send.",
        ),
        exit_code=UNREACHABLE,
    )
