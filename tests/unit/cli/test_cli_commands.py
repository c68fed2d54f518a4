"""What the commands do when all is well."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import attrs
import click
import pytest

from buttdial_sync import __version__
from buttdial_sync.cli import main
from buttdial_sync.cli.report import printable
from buttdial_sync.models.message import Message
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.fakes import set_tools
from tests.unit.cli.cli_runner import TOKEN, run


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=[TOKEN]).listen() as loopback:
        yield loopback


def test_send_passes_everything_on(server: LoopbackServer) -> None:
    """Each option of send reaches the server under its name on the wire."""
    options = {
        "--to": "a@b.example",
        "--body": "Hello",
        "--channel": "email",
        "--media-url": "https://a.example/b.png",
        "--subject": "Greetings",
        "--html": "<b>Hello</b>",
        "--idempotency-key": "order-1",
    }
    result = run("send", *(word for option in options.items() for word in option), server=server)
    assert (result.exit_code, result.stderr) == (0, "")
    assert server.fake.delivered[0].args == {
        "to": "a@b.example",
        "body": "Hello",
        "channel": "email",
        "media": ["https://a.example/b.png"],
        "subject": "Greetings",
        "html": "<b>Hello</b>",
        "idempotencyKey": "order-1",
    }


def test_every_field_of_a_message_is_an_option() -> None:
    """What one text can hold is an option of ``send``; lists and objects are not."""
    options = {param.name for param in main.commands["send"].params}
    fields = {field.name for field in attrs.fields(Message)}
    assert fields - options == {"fallback_channels", "template_vars"}


def test_send_passes_the_other_fields_on(server: LoopbackServer) -> None:
    """An option that is made from a field of the message arrives under its name on the wire."""
    words = ("--to", "+1", "--body", "Hello", "--thread-id", "t-1", "--target-gender", "female")
    assert run("send", *words, server=server).exit_code == 0
    args = server.fake.delivered[0].args
    assert (args["threadId"], args["targetGender"]) == ("t-1", "female")


def test_send_says_the_id(server: LoopbackServer) -> None:
    """The line of a success has the channel and the server's id."""
    server.fake.on_send(sid="SM-7")
    result = run("send", "--to", "+14155550123", "--body", "Hello", server=server)
    assert result.stdout == "Sent over whatsapp, id SM-7\n"


def test_send_as_json(server: LoopbackServer) -> None:
    """The object of send has the result's fields, and the key for sending again."""
    server.fake.on_send(sid="SM-7")
    result = run("send", "--to", "+14155550123", "--body", "Hello", "--json", server=server)
    answer = json.loads(result.stdout)
    assert answer["ok"] is True
    assert answer["outcome"] == "sent"
    assert answer["message_sid"] == "SM-7"
    assert answer["idempotency_key"] == server.fake.delivered[0].idempotency_key
    assert "raw" not in answer


def test_options_win_over_the_environment(server: LoopbackServer) -> None:
    """--base-url is used instead of the variable."""
    result = run(
        "ping", "--base-url", server.base_url, BASE_URL="http://127.0.0.1:9", AGENT_TOKEN=TOKEN
    )
    assert result.exit_code == 0
    assert server.base_url in result.stdout


def test_ping_as_json(server: LoopbackServer) -> None:
    """The object of ping has the round trip in seconds."""
    answer = json.loads(run("ping", "--json", server=server).stdout)
    assert answer["ok"] is True
    assert 0 < answer["seconds"] < 10


def test_tools_lists_names(server: LoopbackServer) -> None:
    """Every tool is on a line with the first line of its description."""
    set_tools(
        server.fake,
        [
            {"name": "one", "description": "First.\nMore.", "inputSchema": {"type": "object"}},
            {"name": "fourth", "inputSchema": {"type": "object"}},
        ],
    )
    assert run("tools", server=server).stdout == "one     First.\nfourth\n"


def test_tools_shows_one(server: LoopbackServer) -> None:
    """A tool is shown with its arguments, their types, and which are required."""
    lines = run("tools", "comms_generate_tts", server=server).stdout.splitlines()
    assert lines[0] == "comms_generate_tts"
    assert "  text    string  (required)" in lines
    assert '  format  "ogg" | "mp3"' in lines


def test_tools_as_json(server: LoopbackServer) -> None:
    """The objects have the schemas."""
    every = json.loads(run("tools", "--json", server=server).stdout)
    one = json.loads(run("tools", "comms_ping", "--json", server=server).stdout)
    assert "comms_send_message" in {tool["name"] for tool in every["tools"]}
    assert one["name"] == "comms_ping"
    assert one["input_schema"]["type"] == "object"


def test_unknown_tool_names_the_nearest(server: LoopbackServer) -> None:
    """A wrong tool name ends with exit code 2 and the right one."""
    result = run("tools", "comms_send_mesage", server=server)
    assert result.exit_code == 2
    assert "comms_send_message" in result.stderr


@pytest.mark.parametrize("args", [("-v", "ping"), ("ping", "-v"), ("-v", "ping", "-v")])
def test_verbose_logs_to_stderr_once(server: LoopbackServer, args: tuple[str, ...]) -> None:
    """-v may stand before and after the command; the logs go, each once, to stderr, tokenless."""
    result = run(*args, server=server)
    assert result.stderr.count("attempt ping #1") == 1
    assert "attempt" not in result.stdout
    assert TOKEN not in result.stderr
    assert logging.getLogger("buttdial_sync").level == logging.NOTSET


def test_version() -> None:
    """--version prints name and version."""
    assert run("--version").stdout == f"buttdial-sync, version {__version__}\n"


def test_every_command_tells_its_exit_codes() -> None:
    """Help says what the exit codes mean, for the program and for each command."""
    for args in ((), *((name,) for name in main.commands)):
        result = run(*args, "--help")
        assert result.exit_code == 0
        for code in ("0", "1", "2", "3", "130"):
            assert f"\n    {code:<5}" in result.stdout, args


def leaves(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """The commands, those inside of groups too."""
    for name, command in group.commands.items():
        assert command.help, name
        if isinstance(command, click.Group):
            yield from leaves(command)
        else:
            yield name, command


def test_every_command_is_documented_and_knows_json() -> None:
    """Each command has a text, --json and -v, and each option has a help."""
    for name, command in leaves(main):
        assert command.help, name
        options = {option: each for each in command.params for option in each.opts}
        assert {"--json", "-v"} <= options.keys(), name
        for option, each in options.items():
            if option.startswith("-"):
                assert getattr(each, "help", None), (name, option)


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("plain\ttext\n", "ascii", "plain\ttext\n"),
        ("שלום", "utf-8", "שלום"),
        ("é…", "ascii", "\\xe9\\u2026"),
        ("\x1b[31m\r\x07\x9b", "utf-8", "\\x1b[31m\\r\\x07\\x9b"),
        ("\u202e", "utf-8", "\\u202e"),
        ("\ud800", "utf-8", "\\ud800"),
    ],
)
def test_printable(text: str, encoding: str, shown: str) -> None:
    """What a terminal cannot show is escaped, and so is what would command it."""
    assert printable(text, encoding) == shown
