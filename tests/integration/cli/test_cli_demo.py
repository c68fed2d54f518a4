"""The demo, as a newcomer runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.cli.process import run

_DEAD_PROXY = "http://127.0.0.1:9"


def test_demo_needs_nothing(tmp_path: Path) -> None:
    """Without any setting the demo ends well, says how long each step took, and what is next."""
    done = run("demo", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "NOT AS PROMISED" not in done.stdout
    steps = [line for line in done.stdout.splitlines() if " ms  as promised" in line]
    assert len(steps) == 9
    assert done.stdout.splitlines()[-1].startswith("It asks for the agent's token. Then: ")
    assert list(tmp_path.iterdir()) == []


def test_demo_fits_a_terminal(tmp_path: Path) -> None:
    """No line is longer than 88 characters or ends with blanks."""
    for line in run("demo", cwd=tmp_path).stdout.splitlines():
        assert len(line) <= 88, line
        assert line == line.rstrip()


def test_demo_shows_both_servers_and_a_message_sent_once(tmp_path: Path) -> None:
    """A lost answer: with keys two attempts and one message, without keys one and unknown."""
    done = run("demo", "--json", cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert answer["ok"] is True
    assert all(step["ok"] and step["milliseconds"] > 0 for step in answer["steps"])
    lost = {step["server"]: step["result"] for step in answer["steps"] if "lost" in step["title"]}
    assert lost == {
        "hosted": "sent; 2 attempts, and the server delivered 1",
        "open-source": "unknown; 1 attempt, and the server delivered 1",
    }


def test_demo_ignores_proxies_and_settings(tmp_path: Path) -> None:
    """Neither a proxy nor settings of a real server change the demo."""
    done = run(
        "demo",
        cwd=tmp_path,
        HTTP_PROXY=_DEAD_PROXY,
        http_proxy=_DEAD_PROXY,
        NO_PROXY="intranet.example",
        BUTT_DIAL_BASE_URL="https://elsewhere.example",
        BUTT_DIAL_AGENT_TOKEN="a-real-token",
        BUTT_DIAL_TOKEN_IN="query",
    )
    assert done.returncode == 0
    assert "a-real-token" not in done.stdout + done.stderr


def test_demo_on_an_ascii_terminal(tmp_path: Path) -> None:
    """On a terminal that knows only ASCII the demo prints only ASCII."""
    done = run("demo", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()


def test_verbose_demo_logs_every_attempt(tmp_path: Path) -> None:
    """-v shows the second attempt of the message whose answer was lost."""
    done = run("demo", "-v", cwd=tmp_path)
    assert "attempt comms_send_message #2" in done.stderr
    assert "demo-token" not in done.stdout + done.stderr
