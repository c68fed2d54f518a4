"""``onboard``: from nothing to a first message, in as many runs as it takes."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from buttdial_sync.cli.onboarding_steps import _token_in
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.workspace import OTP, TERMS_VERSION
from tests.unit.cli.cli_runner import run

STATE = "butt-dial-onboarding.json"
SETTINGS = "butt-dial.env"
ACCOUNT = ("--org", "Acme", "--email", "alice@acme.example")
AGENT = ("--agent-name", "Maya", "--channel", "sms")
MESSAGE = ("--to", "+14155550123", "--body", "Hello")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=[]).listen() as loopback:
        yield loopback


class Host:
    """A directory in which the command is run, again and again."""

    def __init__(self, server: LoopbackServer, directory: Path) -> None:
        self.server = server
        self.directory = directory

    def run(self, *options: str, **variables: str | None) -> Result:
        given: dict[str, Any] = {"BASE_URL": self.server.base_url, **variables}
        return run("onboard", *options, directory=self.directory, **given)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / STATE).read_text("utf-8"))
        return found

    @property
    def settings(self) -> dict[str, str]:
        lines = (self.directory / SETTINGS).read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    @property
    def link(self) -> str:
        org = next(iter(self.server.fake.workspace.orgs))
        token = self.server.fake.workspace.verification_token(org)
        return f"https://butt-dial.example/verify?token={token}"

    def requests(self, path: str) -> int:
        return sum(each.path == path for each in self.server.fake.requests)

    def registered(self) -> None:
        """Go as far as to the mail."""
        assert self.run(*ACCOUNT).exit_code == 75


@pytest.fixture
def host(server: LoopbackServer, tmp_path: Path) -> Host:
    return Host(server, tmp_path)


def test_from_nothing_to_a_message(host: Host) -> None:
    """Two runs: one until the mail, one with its link. The tokens are in a file, nowhere else."""
    first = host.run(*ACCOUNT)
    assert first.exit_code == 75
    assert "a mail goes to alice@acme.example" in first.stderr
    assert "-> Run it again with --link" in first.stderr
    second = host.run("--link", host.link, *AGENT, *MESSAGE)
    assert (second.exit_code, second.stdout.startswith("The first message is sent: SM")) == (
        0,
        True,
    )
    host.server.fake.assert_sent_once(to="+14155550123", body="Hello", channel="sms")
    workspace = host.server.fake.workspace
    (org,), (agent,) = workspace.orgs.values(), workspace.agents.values()
    assert (agent.name, list(agent.channels)) == ("Maya", ["phone"])
    assert host.settings == {
        "BUTT_DIAL_BASE_URL": host.server.base_url,
        "BUTT_DIAL_TEAM_TOKEN": org.team_token,
        "BUTT_DIAL_AGENT_ID": agent.id,
        "BUTT_DIAL_AGENT_TOKEN": agent.tokens[0][0],
    }
    for name in (STATE, SETTINGS):
        assert stat.S_IMODE((host.directory / name).stat().st_mode) == 0o600
    assert {each.name for each in host.directory.iterdir()} == {STATE, SETTINGS}
    shown = first.output + first.stderr + second.output + second.stderr
    for secret in (org.team_token, org.poll_token, agent.tokens[0][0], f"verify-{org.id}"):
        assert str(secret) not in shown


def test_a_run_too_many(host: Host) -> None:
    """Who is through registers nothing again, and sends nothing again."""
    host.registered()
    assert host.run("--link", host.link, *AGENT, *MESSAGE).exit_code == 0
    before = len(host.server.fake.requests)
    again = host.run(*MESSAGE)
    assert (again.exit_code, again.stdout) == (0, "Everything is done already.\n")
    assert len(host.server.fake.requests) == before


def test_json(host: Host) -> None:
    """One object says how far it is; tokens are in it only if they are asked for."""
    first = json.loads(host.run(*ACCOUNT, "--json").stdout)
    assert (first["ok"], first["step"], first["org_id"]) == (False, "verification", "org-1")
    assert first["remediation"].startswith("Run it again with --link")
    result = host.run("--link", host.link, *AGENT, *MESSAGE, "--json")
    second = json.loads(result.stdout)
    assert (second["ok"], second["step"], second["channel"]) == (True, "done", "sms")
    assert (second["agent_id"], second["error"]) == (host.state["agent_id"], None)
    assert "team_token" not in second
    third = json.loads(host.run("--print-tokens", "--json").stdout)
    assert third["agent_token"] == host.state["agent_token"]
    printed = host.run("--print-tokens").stdout
    assert f"team_token: {host.state['team_token']}\n" in printed


def test_a_workspace_that_exists(host: Host) -> None:
    """With a team token there is nothing to register; without ``--to`` nothing is sent."""
    host.server.fake.core.token_check.allow("team-token-of-acme")
    result = host.run(*AGENT, TEAM_TOKEN="team-token-of-acme")
    assert (result.exit_code, result.stdout) == (0, "Ready. In a shell: set -a; . butt-dial.env\n")
    assert host.requests("/api/orgs/register") == 0
    assert host.settings["BUTT_DIAL_TEAM_TOKEN"] == "team-token-of-acme"
    host.server.fake.assert_nothing_sent()


def test_what_is_missing(host: Host) -> None:
    """Without a terminal the option is named; without a server nothing is begun."""
    result = host.run()
    assert result.exit_code == 2
    assert "the workspace's name is missing\n  -> Give --org." in result.stderr
    nowhere = run("onboard", directory=host.directory / "..", BASE_URL=None)
    assert (nowhere.exit_code, "no server is configured" in nowhere.stderr) == (2, True)
    host.server.fake.assert_nothing_sent()
    assert host.requests("/api/orgs/register") == 0


def test_a_wrong_link(host: Host) -> None:
    """A link that is too old is refused, with what to do; the mail can be sent again."""
    host.registered()
    wrong = host.run("--link", "https://butt-dial.example/verify/nonsense")
    assert (wrong.exit_code, "-> Run it again with --resend" in wrong.stderr) == (1, True)
    assert "nonsense" not in wrong.stderr
    again = host.run("--resend")
    assert (again.exit_code, "The mail was sent again." in again.stderr) == (75, True)
    assert host.run("--link", host.link, *AGENT).exit_code == 0


def test_the_page_behind_the_link(host: Host) -> None:
    """Who opened the link gives the address at which the browser ended, which has the token."""
    host.registered()
    host.server.fake.core.token_check.allow("team-token-of-the-page")
    page = "https://acme.example/welcome#bd_token=team-token-of-the-page&org_id=org-1"
    assert host.run("--link", page, *AGENT).exit_code == 0
    assert host.state["team_token"] == "team-token-of-the-page"
    assert host.requests("/api/orgs/verify") == 0


def test_the_terms(host: Host) -> None:
    """Terms have to be accepted: by their version, and in a later run if need be."""
    host.server.fake.workspace.terms_required = True
    host.registered()
    waits = host.run("--link", host.link)
    assert waits.exit_code == 75
    assert "/onboarding?s=" in waits.stderr
    old = host.run("--accept-terms", "2020-01")
    assert (old.exit_code, f"The terms are at {TERMS_VERSION}" in old.stderr) == (1, True)
    assert host.run("--accept-terms", TERMS_VERSION, *AGENT).exit_code == 0
    assert host.requests("/api/orgs/verify") == 1


def test_an_existing_email(host: Host) -> None:
    """A workspace that has its token already is not registered again."""
    host.server.fake.on_rest(
        "POST",
        "/api/orgs/register",
        {"error": "Organization is already verified", "code": "ORG_ALREADY_VERIFIED"},
        status=409,
        public=True,
    )
    result = host.run(*ACCOUNT)
    assert result.exit_code == 1
    assert "-> The workspace has its token already: set BUTT_DIAL_TEAM_TOKEN" in result.stderr


def test_the_phone(host: Host) -> None:
    """A wrong passcode can be corrected with the challenge that there is; then it is confirmed."""
    host.registered()
    waits = host.run("--link", host.link, "--phone", "+14155550199")
    assert (waits.exit_code, "A passcode was sent to …0199" in waits.stderr) == (75, True)
    wrong = host.run("--code", "000000")
    assert (wrong.exit_code, "give the passcode that came last" in wrong.stderr) == (1, True)
    assert "000000" not in wrong.stderr
    assert host.run("--code", OTP, *AGENT).exit_code == 0
    assert host.requests("/api/orgs/me/phone/set") == 1
    assert next(iter(host.server.fake.workspace.orgs.values())).phone == "+14155550199"


def test_too_many_wrong_passcodes(host: Host) -> None:
    """After the last try the next run asks for a new passcode."""
    host.registered()
    host.run("--link", host.link, "--phone", "+14155550199")
    for _ in range(3):
        assert host.run("--code", "000000").exit_code == 1
    last = host.run("--code", "000000")
    assert (last.exit_code, "a new passcode is sent" in last.stderr) == (1, True)
    assert host.run("--phone", "+14155550199").exit_code == 75
    assert host.run("--code", OTP, *AGENT).exit_code == 0
    assert host.requests("/api/orgs/me/phone/set") == 2


def test_the_answer_to_the_registration_is_lost(host: Host) -> None:
    """The next run repeats the request, and there is one workspace."""
    host.server.fake.fault("reset", on="rest", delivered=True, count=3)
    lost = host.run(*ACCOUNT)
    assert (lost.exit_code, "-> Run it again: what was carried" in lost.stderr) == (3, True)
    host.registered()
    assert list(host.server.fake.workspace.orgs) == ["org-1"]
    asked = [each for each in host.server.fake.requests if each.path == "/api/orgs/register"]
    assert len({each.headers["idempotency-key"] for each in asked}) == 1


def test_the_answer_to_the_verification_is_lost(host: Host) -> None:
    """With a webhook's secret the token is fetched again; the link is used up."""
    assert host.run(*ACCOUNT, "--webhook-url", "https://acme.example/hook").exit_code == 75
    host.server.fake.fault("reset", on="rest", delivered=True)
    assert host.run("--link", host.link).exit_code == 3
    assert host.run("--link", host.link, *AGENT).exit_code == 0
    (org,) = host.server.fake.workspace.orgs.values()
    assert host.state["team_token"] == org.team_token


@pytest.mark.parametrize("forgets_keys", [False, True])
def test_the_answer_to_the_agent_is_lost(host: Host, forgets_keys: bool) -> None:
    """The next run gets the same agent's token, also from a server that does not know the key."""
    host.registered()
    assert host.run("--link", host.link).exit_code == 2
    host.server.fake.fault("reset", on="rest", delivered=True, count=3)
    assert host.run(*AGENT).exit_code == 3
    if forgets_keys:
        host.server.fake.workspace.kept.clear()
    assert host.run(*MESSAGE).exit_code == 0
    (agent,) = host.server.fake.workspace.agents.values()
    assert (host.state["agent_id"], agent.name) == (agent.id, "Maya")
    assert host.state["agent_token"] == agent.tokens[0][0]
    host.server.fake.assert_sent_once(to="+14155550123")


def test_the_answer_to_the_channel_is_lost(host: Host) -> None:
    """A channel that is there is not added again: that may buy a second number."""
    host.registered()
    path = "/api/v1/agents/{agent_id}/channels"
    host.server.fake.on_rest("POST", path, "<html>try later</html>", status=502)
    assert host.run("--link", host.link, *AGENT).exit_code == 3
    (agent,) = host.server.fake.workspace.agents.values()
    agent.channels["phone"] = {"status": "active"}
    before = host.requests(path.format(agent_id=agent.id))
    assert host.run(*MESSAGE).exit_code == 0
    assert host.requests(path.format(agent_id=agent.id)) == before == 1


def test_the_answer_to_the_message_is_lost(host: Host) -> None:
    """A message that may have been sent is repeated under its key."""
    host.registered()
    assert host.run("--link", host.link, *AGENT).exit_code == 0
    host.server.fake.fault("cut", delivered=True, count=3)
    lost = host.run(*MESSAGE)
    assert (lost.exit_code, "may have been sent" in lost.stderr) == (3, True)
    assert host.run(*MESSAGE).exit_code == 0
    assert len(host.server.fake.delivered) == 1


def test_a_refused_message(host: Host) -> None:
    """A message that was refused can be sent by a later run."""
    host.registered()
    host.server.fake.on_send(error="no consent", remediation="Ask them first.")
    refused = host.run("--link", host.link, *AGENT, *MESSAGE)
    assert (refused.exit_code, refused.stderr.endswith("  -> Ask them first.\n")) == (1, True)
    assert host.run(*MESSAGE).exit_code == 0


def test_an_agent_of_somebody_else(host: Host) -> None:
    """An id of the caller's that is taken is refused, and no token of another is ended."""
    host.server.fake.core.token_check.allow("team-token")
    assert host.run(*AGENT, "--agent-id", "mine", TEAM_TOKEN="team-token").exit_code == 0
    (agent,) = host.server.fake.workspace.agents.values()
    token = agent.tokens[0][0]
    other = ("--state", "other.json", "--env-file", "other.env")
    taken = host.run(*AGENT, "--agent-id", "mine", *other, TEAM_TOKEN="team-token")
    assert (taken.exit_code, "give another one" in taken.stderr) == (1, True)
    assert agent.tokens[0][0] == token
    assert host.run(*AGENT, *other).exit_code == 0
    assert len(host.server.fake.workspace.agents) == 2


def test_the_open_source_server(tmp_path: Path) -> None:
    """There the token is the orchestrator's, and the agent gets its channel at once."""
    with FakeButtDialServer(dialect="open-source").listen() as server:
        host = Host(server, tmp_path)
        server.fake.on_send(error="no consent")
        assert host.run(*AGENT, *MESSAGE, TEAM_TOKEN="orchestrator-token").exit_code == 1
        result = host.run(*MESSAGE)  # certainly not sent: so it may be sent, also without keys
        assert (result.exit_code, result.stderr.count("Error")) == (0, 0), result.stderr
        (agent,) = server.fake.workspace.agents.values()
        assert list(agent.channels) == ["phone"]
        assert len(server.fake.delivered) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--org", "Globex"), "is about Acme at"),
        (("--email", "bob@globex.example"), "is about Acme at"),
        (("--base-url", "https://butt-dial.example"), "is about Acme at"),
    ],
)
def test_another_workspace(host: Host, options: tuple[str, str], text: str) -> None:
    """A file belongs to one workspace."""
    host.registered()
    result = host.run(*options)
    assert (result.exit_code, text in result.stderr) == (2, True)
    assert len(host.server.fake.workspace.orgs) == 1


def test_files_of_somebody_else(host: Host) -> None:
    """Neither a file of settings nor a file that is not a state is replaced."""
    (host.directory / SETTINGS).write_text("SECRET=mine\n")
    result = host.run(*ACCOUNT)
    assert (result.exit_code, "was not written by this command" in result.stderr) == (2, True)
    (host.directory / SETTINGS).unlink()
    (host.directory / STATE).write_text("[1]")
    assert host.run(*ACCOUNT).exit_code == 2
    assert host.run("--state", "no/such/directory/a.json").exit_code == 2
    assert host.server.fake.requests == []


def test_links() -> None:
    """A token is found in the link, at its end, or is the text itself."""
    tokens = {
        "https://a.example/verify?token=abc&x=1": "abc",
        "https://a.example/verify/abc/": "abc",
        " abc ": "abc",
    }
    assert {link: _token_in(link) for link in tokens} == tokens
    assert repr(_token_in("abc")) == "'***'"
