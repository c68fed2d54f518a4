"""How the program ends, and what it says then."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from buttdial_sync.errors import Outcome, Stage, exits
from buttdial_sync.errors.exits import exit_code, exit_code_of_failure
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer, ToolFailure
from tests.fakes import failed_logins
from tests.unit.cli.cli_runner import TOKEN, run

SEND = ("send", "--to", "+14155550123", "--body", "Hello")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=[TOKEN]).listen() as loopback:
        yield loopback


def test_each_outcome_has_an_exit_code() -> None:
    """Only what never left for a reason of the caller's is a usage error."""
    codes = {
        (outcome, stage): exit_code(outcome, stage)
        for outcome in get_args(Outcome)
        for stage in (*get_args(Stage), None)
    }
    assert {key for key, code in codes.items() if code == 2} == {("not_sent", "config")}
    assert {outcome for (outcome, _), code in codes.items() if code == 0} == {"sent"}
    assert {outcome for (outcome, _), code in codes.items() if code == 1} == {"rejected"}
    assert {outcome for (outcome, _), code in codes.items() if code == 3} == {"not_sent", "unknown"}


@pytest.mark.parametrize("stage", [*get_args(Stage), None])
def test_an_error_never_ends_with_success(stage: Stage | None) -> None:
    """An answer that nobody understands is not a success, though the server gave it."""
    codes = {outcome: exit_code_of_failure(outcome, stage) for outcome in get_args(Outcome)}
    assert codes.pop("sent") == 3
    assert codes == {outcome: exit_code(outcome, stage) for outcome in codes}


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_an_answer_that_is_not_understood(server: LoopbackServer, flags: tuple[str, ...]) -> None:
    """A job that looks at the exit code only does not go on as if all were well."""
    server.fake.on_rest("POST", "/api/orgs/register", {"orgId": ["o1"]}, public=True)
    options = ("--org", "Shop", "--email", "ann@shop.example")
    result = run("onboard", *options, *flags, server=server)
    assert result.exit_code == 3
    assert "unexpected shape" in (result.stdout if flags else result.stderr)


def test_the_help_names_the_exit_codes() -> None:
    """Scripts compare with numbers, which therefore never change."""
    codes = [exits.DONE, exits.REFUSED, exits.USAGE, exits.UNREACHABLE]
    codes += [exits.TRY_LATER, exits.INTERRUPTED, exits.TERMINATED]
    assert codes == [0, 1, 2, 3, 75, 130, 143]
    assert [int(code) for code in re.findall(r"(?m)^  (\d+)", exits.EXIT_CODES)] == codes


def test_server_says_no(server: LoopbackServer) -> None:
    """A refused message: exit code 1, the message, and the server's advice after an arrow."""
    server.fake.on_send(error="No sender", code="NO_CHANNEL_ASSIGNED", remediation="Assign one.")
    result = run(*SEND, server=server)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Error: No sender (NO_CHANNEL_ASSIGNED)\n  -> Assign one.\n"


def test_wrong_token(server: LoopbackServer) -> None:
    """A 401 ends with exit code 1 after one login, and the token is not shown."""
    result = run(*SEND, server=server, AGENT_TOKEN="a-wrong-token")
    assert result.exit_code == 1
    assert "AUTH_INVALID_TOKEN" in result.stderr
    assert "a-wrong-token" not in result.output + result.stderr
    assert failed_logins(server.fake) == 1


def test_limit_names_its_seconds(server: LoopbackServer) -> None:
    """A limit that says when it ends is told with the seconds."""
    server.fake.on_send(error="Rate limit exceeded. Resets in up to 60 seconds.")
    result = run(*SEND, "--timeout", "5", server=server)
    assert result.exit_code == 1
    assert "try again in 60 s" in result.stderr


def test_unknown_outcome() -> None:
    """A lost answer on a server without keys: exit code 3, and how to send again safely."""
    fake = FakeButtDialServer(dialect="open-source")
    with fake.listen() as server:
        fake.fault("reset", on="rest", delivered=True)
        result = run(*SEND, "--idempotency-key", "order-1", server=server)
    assert result.exit_code == 3
    assert "may have been sent" in result.stderr.splitlines()[0]
    assert result.stderr.splitlines()[1].startswith("  -> Find out")
    assert "--idempotency-key order-1" in result.stderr
    assert len(fake.delivered) == 1


def test_answer_lost_and_repeated(server: LoopbackServer) -> None:
    """A lost answer on a server with keys is no failure: the message went out once."""
    server.fake.fault("cut")
    result = run(*SEND, server=server)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "(2 attempts)" in result.stdout
    assert len(server.fake.delivered) == 1


def test_nobody_listens(closed_port: str) -> None:
    """A server that is not there: exit code 3, after all attempts."""
    result = run(*SEND, "--timeout", "3", BASE_URL=closed_port, AGENT_TOKEN=TOKEN)
    assert result.exit_code == 3
    assert "REFUSED" in result.stderr
    assert "  -> " in result.stderr


def test_a_page_instead_of_a_server(server: LoopbackServer) -> None:
    """An HTML page is not Butt-Dial: exit code 3, and the page is not printed."""
    server.fake.fault("html", on="stream")
    result = run("ping", server=server)
    assert result.exit_code == 3
    assert "event stream" in result.stderr
    assert "<html" not in result.stderr


@pytest.mark.parametrize(
    ("args", "variables", "says"),
    [
        (("ping",), {"AGENT_TOKEN": "t"}, "--base-url"),
        (("ping",), {"BASE_URL": "http://127.0.0.1:9"}, "BUTT_DIAL_AGENT_TOKEN"),
        (("ping",), {"BASE_URL": "127.0.0.1", "AGENT_TOKEN": "t"}, "base_url"),
        (("ping",), {"BASE_URL": "http://127.0.0.1:9", "TOKEN_IN": "body"}, "TOKEN_IN"),
        (("ping", "--timeout", "-1"), {"BASE_URL": "http://a", "AGENT_TOKEN": "t"}, "timeout"),
        (("send", "--to", "+1"), {"BASE_URL": "http://a", "AGENT_TOKEN": "t"}, "nothing to send"),
        (("send", "--body", "x"), {}, "--to"),
        (("send", "--to", "+1", "--channel", "fax"), {}, "fax"),
        (("launch",), {}, "launch"),
    ],
)
def test_usage_and_configuration(
    args: tuple[str, ...], variables: dict[str, Any], says: str
) -> None:
    """What the caller must mend ends with exit code 2 and names it; nothing is sent."""
    result = run(*args, **variables)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("given", [("--agent-token", "s3cret"), ("--agent-token=s3cret",)])
def test_token_is_no_option(given: tuple[str, ...]) -> None:
    """A token cannot be given on the command line, where everybody sees it; nor is it repeated."""
    result = run("ping", *given)
    assert result.exit_code == 2
    assert "s3cret" not in result.stderr


def test_an_argument_that_the_server_would_drop() -> None:
    """Media that the open-source server would leave out in silence: exit code 2, nothing sent."""
    fake = FakeButtDialServer(dialect="open-source")
    with fake.listen() as server:
        result = run(*SEND, "--media-url", "https://a.example/b.png", server=server)
    assert result.exit_code == 2
    assert "media" in result.stderr
    assert fake.sent_messages == []


def test_errors_as_json(server: LoopbackServer) -> None:
    """With --json an exception has the names of a result, and stderr says the same."""
    server.fake.revoke(TOKEN)
    result = run("ping", "--json", server=server)
    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert answer["ok"] is False
    assert answer["error_code"] == "AUTH_TOKEN_REVOKED"
    assert answer["outcome"] == "rejected"
    assert answer["remediation"] in result.stderr


def test_a_server_cannot_command_the_terminal(server: LoopbackServer) -> None:
    """Control characters and line breaks in a server's words are not passed on."""
    server.fake.on_tool("comms_send_message", ToolFailure("bad\x1b[2J\nError: forged"))
    result = run(*SEND, server=server)
    assert "\x1b" not in result.stderr
    assert result.stderr.startswith("Error: bad\\x1b[2J Error: forged\n")
