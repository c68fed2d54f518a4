"""The recipes of docs/testing.rst: other test tools beside the kit, and mistakes in its use."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import responses

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer

pytest_plugins = ["pytester"]


def test_pytest_socket_and_freezegun(pytester: pytest.Pytester) -> None:
    """The fake needs no socket, nor does a client that was only made; deadlines need no date."""
    pytest.importorskip("pytest_socket", reason="needs pytest-socket")
    pytest.importorskip("freezegun", reason="needs freezegun")
    pytester.makepyfile(
        """
        import socket

        import pytest
        from freezegun import freeze_time

        from buttdial_sync import Client

        def test_sending(fake_server, butt_dial_client):
            assert butt_dial_client.send_message("+14155550123", "Hello", "sms").ok
            fake_server.assert_sent_once(to="+14155550123")

        @freeze_time("2026-12-24")
        def test_the_time_stands_still(fake_server):
            refused = {"error": "no", "retryable": True}
            with Client(fake_server.install(), agent_token="t", sleep=lambda _: None) as client:
                assert client.send_message("+14155550123", "Hello", "sms").ok
                fake_server.fault("status", status=503, body=refused, count=9)
                assert client.send_message("+14155550123", "Hello", "sms").failed

        def test_a_client_alone():
            Client("https://butt-dial.test", agent_token="t").close()

        def test_sockets_are_refused():
            with pytest.raises(RuntimeError):
                socket.socket()
            with pytest.raises(RuntimeError):
                socket.socketpair()
        """
    )
    # Two plugins that have no part in it take longer to load than the tests to run.
    others = ("-p", "no:hypothesispytest", "-p", "no:anyio")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--disable-socket", *others)
    result.assert_outcomes(passed=4)


def test_django_test_case(tmp_path: Path) -> None:
    """Django's own runner; the project's settings name a server that does not exist."""
    (tmp_path / "test_shop.py").write_text(
        """
from django.test import TestCase

from buttdial_sync.contrib.django import get_client
from buttdial_sync.testing import FakeButtDialServer

class ShipmentTests(TestCase):
    def setUp(self):
        self.server = FakeButtDialServer()
        self.server.install("*")
        self.addCleanup(self.server.uninstall)

    def test_the_customer_is_told(self):
        assert get_client().send_message("+14155550123", "Shipped", "sms").ok
        self.server.assert_sent_once(to="+14155550123")

    def test_anew(self):
        self.server.assert_nothing_sent()
"""
    )
    (tmp_path / "shop_settings.py").write_text(
        """
SECRET_KEY = "x"
INSTALLED_APPS = ["buttdial_sync.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
BUTT_DIAL = {"BASE_URL": "https://messages.shop.example", "AGENT_TOKEN": "of-the-settings"}
USE_TZ = True
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "django", "test", "--settings", "shop_settings"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Ran 2 tests" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_any_base_url() -> None:
    """Code that has an address of its own needs no setting."""
    fake = FakeButtDialServer()
    with fake.mocked("*") as mocked:
        for base_url in ("https://messages.shop.example", "http://other.example:8080"):
            with Client(base_url, agent_token="t") as client:
                assert client.send_message("+14155550123", base_url, "sms").ok
        assert requests.get(f"{mocked.base_url}/sse", timeout=5).status_code == 401
    assert [call.body for call in fake.delivered] == [
        "https://messages.shop.example",
        "http://other.example:8080",
    ]


def test_the_addresses_of_a_domain() -> None:
    """A pattern leaves all other addresses alone."""
    fake = FakeButtDialServer()
    assert fake.install("https://*.shop.example") == "https://butt-dial.shop.example"
    try:
        assert requests.get("https://eu.shop.example/sse", timeout=5).status_code == 401
        with pytest.raises(requests.ConnectionError):
            requests.get("https://eu.other.example/sse", timeout=5)
        with pytest.raises(requests.ConnectionError):
            requests.get("http://eu.shop.example/sse", timeout=5)
    finally:
        fake.uninstall()


def test_what_the_test_registers_comes_first() -> None:
    """The host's other services are mocked beside a fake that is everywhere."""
    with FakeButtDialServer().mocked("*"), responses.RequestsMock() as mock:
        mock.get("https://payments.example/", json={"paid": True})
        assert requests.get("https://payments.example/", timeout=5).json() == {"paid": True}


@pytest.mark.butt_dial(base_url="*")
def test_any_base_url_by_mark(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """The fixture too."""
    assert butt_dial_client.base_url == "https://butt-dial.test"
    with Client("https://messages.shop.example", agent_token="t") as client:
        assert client.send_message("+14155550123", "Hello", "sms").ok
    fake_server.assert_sent_once(body="Hello")


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("butt_dial(dialekt='hosted')", "@pytest.mark.butt_dial has no option 'dialekt': did you"),
        ("butt_dial('hosted')", "@pytest.mark.butt_dial takes its options by name"),
        ("butt_dial(x=1)", "has no option 'x': there are dialect, tokens, clock"),
    ],
)
def test_a_wrong_mark(pytester: pytest.Pytester, mark: str, words: str) -> None:
    """The mark is named, and not a class that nobody wrote."""
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.{mark}\ndef test_it(fake_server):\n    pass\n"
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:django")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*TypeError: *{words}*"])


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_a_tool_that_does_not_exist(dialect: str) -> None:
    """Programming it would do nothing, and the test would fail elsewhere."""
    fake = FakeButtDialServer(dialect=dialect)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'comms_otp_sned': did you mean comms_"):
        fake.on_tool("comms_otp_sned", {})
    with pytest.raises(ValueError, match=f"the {dialect} server has no tool 'make_coffee'$"):
        fake.fault("status", tool="make_coffee")


def cpu_of(work: object, times: int = 30) -> float:
    assert callable(work)
    began = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - began


def test_fixtures_cost_less_than_a_message() -> None:
    """A suite of a thousand tests does not wait for them. Measured as CPU time, side by side."""

    def fixtures() -> None:
        fake = FakeButtDialServer()
        with Client(fake.install(), agent_id="agent-1", agent_token="t"):
            pass
        fake.uninstall()

    def with_a_message() -> None:
        fake = FakeButtDialServer()
        with Client(fake.install(), agent_id="agent-1", agent_token="t") as client:
            assert client.send_message("+14155550123", "Hello", "sms").ok
        fake.uninstall()

    with_a_message()  # the first one imports
    assert min(cpu_of(fixtures) / cpu_of(with_a_message) for _ in range(3)) < 0.5
