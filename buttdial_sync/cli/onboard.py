"""From nothing to a first message: ``onboard``."""

from __future__ import annotations

import shlex
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import parse_qs, urlsplit

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand, wants_json
from buttdial_sync.cli.connection import log_event, read_settings
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
    OutcomeUnknownError,
    VerificationTokenExpired,
)
from buttdial_sync.errors.exits import TRY_LATER, UNREACHABLE, exit_code
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.settings import Settings

if TYPE_CHECKING:
    from buttdial_sync.accounts.client import AccountsClient, AccountsView
    from buttdial_sync.models.sending import SendResult

STATE_FILE = "butt-dial-onboarding.json"
SETTINGS_FILE = "butt-dial.env"
_CHANNELS = {"sms": "phone", "whatsapp": "whatsapp", "email": "email", "line": "line"}
_DEFAULT_CHANNEL = "sms"
_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (
        OrgAlreadyVerified,
        "The workspace has its token already: set BUTT_DIAL_TEAM_TOKEN to it, and run this again.",
    ),
    (
        VerificationTokenExpired,
        "Run it again with --resend, and give the link of the new mail.",
    ),
    (OTPInvalid, "Run it again, and give the passcode that came last."),
    (OTPExpired, "Run it again: a new passcode is sent."),
    (OTPMaxAttempts, "Run it again: a new passcode is sent."),
    (ChallengeNotFound, "Run it again: a new passcode is sent."),
    (
        ConflictError,
        "An agent has this id already: give another one, or none, with --agent-id.",
    ),
    (OutcomeUnknownError, "Run it again: what was carried out is not done a second time."),
)


class _WaitsForPerson(Exception):  # noqa: N818 - nothing failed
    """The next step needs what only a person can say, and there is no terminal to ask on."""

    def __init__(self, message: str, remediation: str) -> None:
        super().__init__(message)
        self.message = message
        self.remediation = remediation


@attrs.frozen(kw_only=True)
class _Given:
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


@click.command(cls=ReportingCommand)
@click.option("--base-url", metavar="URL", help="The server [env: BUTT_DIAL_BASE_URL].")
@click.option("--org", metavar="NAME", help="The new workspace's name.")
@click.option("--email", metavar="ADDRESS", help="Its owner, who gets the mail with the link.")
@click.option("--product", metavar="NAME", help="Whose mail it seems to be; the workspace's name.")
@click.option("--webhook-url", metavar="URL", help="Where the server posts account.verified.")
@click.option(
    "--link",
    envvar="BUTT_DIAL_VERIFICATION_LINK",
    metavar="URL",
    help="The link of the mail, or its token [env: BUTT_DIAL_VERIFICATION_LINK].",
)
@click.option("--resend", is_flag=True, help="Let the mail be sent again.")
@click.option("--accept-terms", metavar="VERSION", help="The version of the terms that you accept.")
@click.option("--phone", metavar="NUMBER", help="The owner's phone, to confirm it.")
@click.option("--code", metavar="CODE", help="The passcode that was sent to the phone.")
@click.option("--agent-name", metavar="NAME", help="The agent's name.")
@click.option("--agent-id", metavar="ID", help="Your own id for the agent; a new UUID if absent.")
@click.option("--channel", type=click.Choice(list(_CHANNELS)), help="The agent's first channel.")
@click.option("--to", metavar="RECIPIENT", help="Who gets a first message; nobody if absent.")
@click.option("--body", metavar="TEXT", help="Its text.")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=STATE_FILE,
    show_default=True,
    help="Keeps how far it is. A run with the same file goes on.",
)
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=SETTINGS_FILE,
    show_default=True,
    help="Gets the tokens, readable by you only.",
)
@click.option("--print-tokens", is_flag=True, help="Print the tokens, too.")
@click.pass_context
def onboard(
    ctx: click.Context,
    /,
    base_url: str | None,
    state: Path,
    env_file: Path,
    print_tokens: bool,
    **options: Any,
) -> Report:
    """
    Get a workspace, an agent with a channel, and a first message.

    In a terminal it asks for what is missing. What it has reached is kept in a file: after an
    interruption, or when it has to wait for a mail, run it again. With BUTT_DIAL_TEAM_TOKEN the
    workspace exists already. Tokens go into a file, never onto the screen.
    """
    given = _Given(**options)
    files = OnboardingFile(state, env_file)
    files.check_settings()
    settings = Settings(base_url=base_url or None).filled_from(read_settings())
    onboarding = _begin(files, settings, given)
    asks = not wants_json(ctx) and sys.stdin is not None and sys.stdin.isatty()

    from buttdial_sync.accounts.client import AccountsClient

    of_server = {"base_url": onboarding.base_url, "team_token": None, "on_event": log_event}
    with AccountsClient(**settings.for_accounts(**of_server)) as accounts:
        run = _Run(accounts, settings, onboarding, files, given, asks=asks)
        try:
            report = run.to_the_end()
        except _WaitsForPerson as waiting:
            failure = Failure(message=waiting.message, remediation=waiting.remediation)
            report = Report(data={"ok": False}, failure=failure, exit_code=TRY_LATER)
        except tuple(kind for kind, _ in _ADVICE) as error:
            report = _with_advice(error)
        except (KeyboardInterrupt, click.Abort):
            say("\nRun it again to go on.", err=True)
            raise
    return _with_state(report, onboarding, files, print_tokens=print_tokens)


def _begin(files: OnboardingFile, settings: Settings, given: _Given) -> Onboarding:
    """Go on with the file, or begin one; refuse a file that is about something else."""
    kept = files.load()
    if kept is None:
        if settings.base_url is None:
            raise ConfigError(
                "no server is configured", remediation="Give --base-url, or set BUTT_DIAL_BASE_URL."
            )
        kept = Onboarding(base_url=settings.base_url)
    wanted = (settings.base_url, given.org, given.email)
    known = (kept.base_url, kept.org_name, kept.owner_email)
    if any(w and k and w != k for w, k in zip(wanted, known, strict=True)):
        raise ConfigError(
            f"{files.path} is about {kept.org_name or 'another workspace'} at {kept.base_url}",
            remediation="Give another file with --state to begin anew.",
        )
    if settings.team_token and kept.team_token is None:
        kept.team_token = settings.team_token
        files.save(kept)
    return kept


class _Run:
    """One run: each step is done once, and kept before the next one begins."""

    def __init__(
        self,
        accounts: AccountsClient,
        settings: Settings,
        state: Onboarding,
        files: OnboardingFile,
        given: _Given,
        *,
        asks: bool,
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._state = state
        self._files = files
        self._given = given
        self._asks = asks

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
                self._tell("The mail was sent again.")
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
        self._tell(f"Registered as {registration.org_id}; a mail goes to {state.owner_email}.")

    def _verify(self) -> None:
        state = self._state
        if state.session_id is None:
            link = Secret(
                self._needed(
                    self._given.link,
                    "The link in that mail (copy it, do not open it)",
                    "--link, or BUTT_DIAL_VERIFICATION_LINK,",
                    waits_for=f"the owner's mail at {state.owner_email}",
                    hidden=True,
                )
            )
            if (token := _team_token_in(link)) is not None:
                return self._verified(token)
            try:
                return self._verified(self._accounts.verify(_token_in(link)).team_token)
            except OrgAlreadyVerified:
                if state.org_id is None or state.webhook_secret is None:
                    raise
                revealed = self._accounts.reveal_team_token(state.org_id, state.webhook_secret)
                return self._verified(revealed.team_token)
            except OnboardingRequired as required:
                if required.onboarding_session_id is None:
                    raise
                self._keep(session_id=required.onboarding_session_id)
                self._tell(f"The terms have to be accepted first: {required.onboarding_url}")
        version = self._needed(
            self._given.accept_terms,
            "The version of the terms that you accept",
            "--accept-terms",
            waits_for="the terms to be accepted",
        )
        accepted = self._accounts.accept_onboarding(state.session_id or "", version)
        return self._verified(accepted.team_token)

    def _verified(self, team_token: str) -> None:
        self._keep(team_token=Secret(team_token), session_id=None)
        self._tell(f"The workspace is verified; its token is in {self._files.settings}.")

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
            self._tell(f"A passcode was sent to {hint or phone}.")
        while not state.phone_confirmed:
            typed = self._needed(code, "The passcode", "--code", waits_for="the passcode")
            try:
                workspace.confirm_phone(state.challenge_id or "", typed)
            except OTPInvalid:
                if not self._asks:
                    raise
                code = None
                self._tell("That passcode is wrong.")
            except (OTPExpired, OTPMaxAttempts, ChallengeNotFound):
                self._keep(challenge_id=None)
                raise
            else:
                self._keep(phone_confirmed=True, challenge_id=None)
                self._tell("The phone is confirmed.")

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
        self._tell(f"Agent {name} is registered as {agent_id}; its token is in the same file.")

    def _new_agent(self, workspace: AccountsView, agent_id: str, name: str) -> str:
        key = self._state.agent_key
        try:
            return workspace.register_agent(agent_id, name, idempotency_key=key).agent_token
        except EndpointNotAvailable:
            # The open-source server makes an agent and its channel in one step.
            import warnings

            channel = _CHANNELS[self._state.wanted_channel or _DEFAULT_CHANNEL]
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
        on_wire = cast("Literal['phone', 'email', 'whatsapp', 'line']", _CHANNELS[channel])
        agent_id = state.agent_id or ""
        # Adding twice may buy a second number: an earlier run may have lost its answer.
        found = workspace.get_agent(agent_id).get("channels") or ()
        if on_wire not in found:
            workspace.manage_agent_channel(agent_id, "add", on_wire)
        self._keep(channel=channel)
        self._tell(f"It has the channel {channel}.")

    def _send_message(self) -> Report:
        state, given = self._state, self._given
        if state.message_sid is not None:
            return Report(data={"ok": True}, lines=["Everything is done already."])
        to = given.to or self._asked("Who gets a first message (empty: nobody)")
        if not to:
            ready = f"Ready. In a shell: set -a; . {shlex.quote(str(self._files.settings))}"
            return Report(data={"ok": True}, lines=[ready])
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
            return Report(data={"ok": True}, lines=[f"The first message is sent: {sid}"])
        told = described(result.error or "not sent", result.error_code, result.retry_after)
        if result.unknown:
            return _may_have_been_sent(told)
        self._keep(message_key=None)  # certainly not sent: a later run may
        return Report(
            data={"ok": False, "error_code": result.error_code},
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
            raise _WaitsForPerson(f"waiting for {waits_for}", f"Run it again with {option}.")
        raise ConfigError(f"{prompt.lower()} is missing", remediation=f"Give {option}.")

    def _asked(self, prompt: str) -> str | None:
        """Ask for what need not be given."""
        if not self._asks:
            return None
        return ask(prompt, default="", show_default=False).strip() or None

    def _asked_for_channel(self) -> str:
        if not self._asks:
            return _DEFAULT_CHANNEL
        channels = click.Choice(list(_CHANNELS))
        prompt = f"The agent's channel ({', '.join(_CHANNELS)})"
        return ask(prompt, type=channels, default=_DEFAULT_CHANNEL, show_choices=False)

    def _tell(self, text: str) -> None:
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
        data={"ok": False, "outcome": "unknown"},
        failure=Failure(
            message=f"the first message may have been sent: {reason}",
            remediation="Ask the recipient. If it did not arrive: buttdial-sync send.",
        ),
        exit_code=UNREACHABLE,
    )


def _with_advice(error: Exception) -> Report:
    report = Report.of_error(cast("Any", error))
    advice = next(advice for kind, advice in _ADVICE if isinstance(error, kind))
    failure = Failure(message=report.failure.message if report.failure else "", remediation=advice)
    return attrs.evolve(report, data={**report.data, "remediation": advice}, failure=failure)


def _with_state(
    report: Report, state: Onboarding, files: OnboardingFile, *, print_tokens: bool
) -> Report:
    """Add what is known, without the tokens unless they are asked for."""
    known = {
        "step": state.step,
        "org_id": state.org_id,
        "agent_id": state.agent_id,
        "agent_name": state.agent_name,
        "channel": state.channel,
        "message_sid": state.message_sid,
        "state": str(files.path),
        "env_file": str(files.settings) if state.team_token else None,
    }
    failure = report.failure
    told = {"error": failure and failure.message, "remediation": failure and failure.remediation}
    tokens = {"team_token": state.team_token, "agent_token": state.agent_token}
    shown = tokens if print_tokens else {}
    lines = [f"{name}: {token}" for name, token in shown.items() if token]
    return attrs.evolve(
        report, data={**told, **report.data, **known, **shown}, lines=[*report.lines, *lines]
    )
