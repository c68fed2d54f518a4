"""From nothing to a first message: ``onboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand, wants_json
from buttdial_sync.cli.connection import log_event, read_settings
from buttdial_sync.cli.onboarding_file import Onboarding, OnboardingFile
from buttdial_sync.cli.onboarding_steps import (
    CHANNELS,
    OnboardingOptions,
    OnboardingSteps,
    WaitsForPerson,
)
from buttdial_sync.cli.report import Report, say
from buttdial_sync.cli.status_line import can_ask
from buttdial_sync.errors import (
    ButtDialError,
    ChallengeNotFound,
    ConfigError,
    ConflictError,
    OrgAlreadyVerified,
    OTPExpired,
    OTPInvalid,
    OTPMaxAttempts,
    OutcomeUnknownError,
    VerificationTokenExpired,
)
from buttdial_sync.errors.exits import TRY_LATER
from buttdial_sync.settings import Settings

STATE_FILE = "butt-dial-onboarding.json"
SETTINGS_FILE = "butt-dial.env"
_NEW_PASSCODE = "Run it again: a new passcode is sent."
# The first that an error is an instance of.
_ADVICE: dict[type[ButtDialError], str] = {
    OrgAlreadyVerified: "The workspace has its token already: set BUTT_DIAL_TEAM_TOKEN to it, and "
    "run this again.",
    VerificationTokenExpired: "Run it again with --resend, and give the link of the new mail.",
    OTPInvalid: "Run it again, and give the passcode that came last.",
    OTPExpired: _NEW_PASSCODE,
    OTPMaxAttempts: _NEW_PASSCODE,
    ChallengeNotFound: _NEW_PASSCODE,
    ConflictError: "An agent has this id already: give another one, or none, with --agent-id.",
    OutcomeUnknownError: "Run it again: what was carried out is not done a second time.",
}


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
@click.option("--channel", type=click.Choice(list(CHANNELS)), help="The agent's first channel.")
@click.option("--to", metavar="RECIPIENT", help="Who gets a first message; nobody if absent.")
@click.option("--body", metavar="TEXT", help="Its text.")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    default=STATE_FILE,
    show_default=True,
    help="The file that keeps the progress. A run with the same file goes on.",
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
    workspace exists already. Tokens go into a file; they are shown with --print-tokens only.
    """
    given = OnboardingOptions(**options)
    files = OnboardingFile(state, env_file)
    files.check_settings()
    settings = Settings(base_url=base_url or None).filled_from(read_settings())
    onboarding = _begin(files, settings, given)
    asks = not wants_json(ctx) and can_ask()

    from buttdial_sync.accounts.client import AccountsClient

    of_server = {"base_url": onboarding.base_url, "team_token": None, "on_event": log_event}
    with AccountsClient(**settings.for_accounts(**of_server)) as accounts:
        run = OnboardingSteps(accounts, settings, onboarding, files, given, asks)
        try:
            report = run.to_the_end()
        except WaitsForPerson as waiting:
            report = Report(failure=waiting.failure, exit_code=TRY_LATER)
        except tuple(_ADVICE) as error:
            error.remediation = next(_ADVICE[kind] for kind in _ADVICE if isinstance(error, kind))
            report = Report.of_error(error)
        except (KeyboardInterrupt, click.Abort):
            say("\nRun it again to go on.", err=True)
            raise
    return _with_state(report, onboarding, files, print_tokens=print_tokens)


def _begin(files: OnboardingFile, settings: Settings, given: OnboardingOptions) -> Onboarding:
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
