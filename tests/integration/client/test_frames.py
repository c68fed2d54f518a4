"""What the frames of an exception show: nothing of a token, wherever the exception came from."""

from __future__ import annotations

import gc
import http.client
import socket
import ssl
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest
import requests
import urllib3
from celery.exceptions import SoftTimeLimitExceeded

from buttdial_sync import AccountsClient, ButtDialError, Client, ConfigError, InboundHandler
from buttdial_sync.errors import ProtocolError
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.settings import load_settings
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.simulate import HostSimulator
from tests.fakes import add_fault
from tests.leaks import leaks_of

TOKEN = "s3cr3t/T+ken"
POLL_TOKEN = "p0ll/T+ken"

LIBRARIES = tuple(
    str(path)
    for path in (
        Path(urllib3.__file__).parent,
        Path(requests.__file__).parent,
        http.client.__file__,
        socket.__file__,
        ssl.__file__,
    )
)


class GreenletTimeout(BaseException):
    """As ``gevent.Timeout``: raised in the middle of anything, and not an ``Exception``."""


class Strike:
    """
    Raises at the n-th call or return of a function of the libraries under us.

    Not in a finalizer, for Python ignores there what is raised.
    """

    def __init__(self, number: int, kind: type[BaseException]) -> None:
        self.kind = kind
        self.has_struck = False
        self._left = number

    def __call__(self, frame: FrameType, _event: str, _arg: object) -> None:
        if frame.f_code.co_filename.startswith(LIBRARIES):
            self._left -= 1
            if self._left <= 0 and not any(map(_is_finalizer, _stack(frame))):
                sys.setprofile(None)
                self.has_struck = True
                raise self.kind("from outside")


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_finalizer(frame: FrameType) -> bool:
    return frame.f_code is weakref.finalize.__call__.__code__


def struck(act: Callable[[], object], kind: type[BaseException], step: int) -> Iterator[Any]:
    """Let it strike at every ``step``-th place that a call comes by, and yield what got out."""
    number = 1
    while True:
        strike = Strike(number, kind)
        profile = sys.getprofile()
        sys.setprofile(strike)
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - that is the test
            sys.setprofile(profile)
            yield error
        finally:
            sys.setprofile(profile)
        if not strike.has_struck:
            return
        number += step


@pytest.fixture(params=["hosted", "open-source"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect=request.param).listen() as loopback:
        yield loopback


@pytest.fixture
def client(server: LoopbackServer) -> Iterator[Client]:
    with Client(server.base_url, agent_token=TOKEN, max_attempts=1) as made:
        made.ping()
        yield made


@pytest.fixture
def accounts(server: LoopbackServer) -> Iterator[AccountsClient]:
    with AccountsClient(server.base_url, team_token=TOKEN, max_attempts=1) as made:
        yield made


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SoftTimeLimitExceeded, GreenletTimeout])
class TestFromOutside:
    """Ctrl-C, a task's time limit, a greenlet's: wherever they strike in the libraries."""

    def clean(self, act: Callable[[], object], kind: type[BaseException], step: int) -> None:
        leaks: list[str] = []
        seen = 0
        for error in struck(act, kind, step):
            leaks += leaks_of(error, TOKEN, POLL_TOKEN)
            seen += isinstance(error, kind)
        del error
        gc.collect()  # where it strikes between two lines of a library, a socket is nobody's
        assert leaks == []
        assert seen >= 3

    def test_tool(self, client: Client, kind: type[BaseException]) -> None:
        """A post with the token in a header."""
        self.clean(lambda: client.call_tool("comms_ping"), kind, 151)

    def test_rest(self, accounts: AccountsClient, kind: type[BaseException]) -> None:
        """A REST call with a secret in its body."""
        self.clean(lambda: accounts.verify(POLL_TOKEN), kind, 151)

    def test_query(self, accounts: AccountsClient, kind: type[BaseException]) -> None:
        """A REST call with a token in its URL."""
        self.clean(lambda: accounts.verification_status("o", POLL_TOKEN), kind, 151)

    def test_opening(self, server: LoopbackServer, kind: type[BaseException]) -> None:
        """A stream that is opened, with the token where the server wants it."""

        def open_one() -> None:
            with Client(server.base_url, agent_token=TOKEN, max_attempts=1) as fresh:
                fresh.ping()

        self.clean(open_one, kind, 601)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_while_a_library_handles_its_own_error(server: LoopbackServer) -> None:
    """Its error, which has the request in its frames, is not the context of what gets out."""

    def call() -> None:
        with AccountsClient(server.base_url, team_token=TOKEN, max_attempts=1) as accounts:
            add_fault(server.fake, "reset", on="rest")
            accounts.get_account()

    seen = 0
    for error in struck(call, KeyboardInterrupt, 23):
        if isinstance(error, KeyboardInterrupt):
            assert leaks_of(error, TOKEN) == []
            assert isinstance(error.__context__, ButtDialError | None)
            seen += 1
        server.fake.core.faults.clear()
    del error
    gc.collect()
    assert seen > 20


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it may strike where a socket is made
def test_the_context_of_the_host_stays(client: Client) -> None:
    """What the host was handling when it called is still the context, and nothing of ours is."""
    trouble = LookupError("the host's own")
    errors: list[BaseException] = []

    def call() -> None:
        try:
            raise trouble
        except LookupError:
            client.call_tool("comms_ping")

    for error in struck(call, KeyboardInterrupt, 211):
        assert error.__context__ is trouble
        errors.append(error)
    assert errors


def caught(act: Callable[[], object]) -> ButtDialError:
    with pytest.raises(ButtDialError) as info:
        act()
    return info.value


def test_new_tokens_in_a_misshaped_answer(server: LoopbackServer) -> None:
    """The answer that brings a token is not shown when it cannot be read."""
    server.fake.on_tool("comms_onboard_customer", f'[{{"token": "{TOKEN}"}}]')
    odd_team = {"ownerToken": {"value": TOKEN}, "orgId": {}}
    server.fake.on_rest("POST", "/api/orgs/verify", odd_team, public=True)
    with (
        AccountsClient(server.base_url, team_token="team") as accounts,
        Client(server.base_url, agent_token="agent-1") as client,
    ):
        for act in (
            lambda: accounts.verify("link"),
            lambda: client.organization.onboard_customer("Maya", {"phone": True}),
        ):
            error = caught(act)
            assert isinstance(error, ProtocolError)
            assert leaks_of(error, TOKEN) == []


@pytest.mark.parametrize(
    "act",
    [
        lambda: Client("nonsense", agent_token=TOKEN),
        lambda: Client("https://h.test", agent_token=TOKEN, timeout=-1),
        lambda: AccountsClient("nonsense", team_token=TOKEN),
        lambda: Client.from_env({"BUTT_DIAL_URL": "x", "BUTT_DIAL_AGENT_TOKEN": TOKEN}),
        lambda: Client.from_env({"BUTT_DIAL_AGENT_TOKEN": TOKEN, "BUTT_DIAL_TOKEN_IN": "x"}),
        lambda: Client.from_env({}, base_url="nonsense", agent_token=TOKEN),
        lambda: load_settings({"BUTT_DIAL_AGENT_TOKEN": TOKEN, "BUTT_DIAL_TOKEN_IN": "x"}),
        lambda: AccountsClient.from_env({"BUTT_DIAL_TEAM_TOKEN": TOKEN, "OTHER": TOKEN}),
        lambda: InboundHandler(account_webhook_secret=[TOKEN], whatsapp_webhook_secret=5),  # type: ignore[arg-type]
        lambda: InboundHandler(
            account_webhook_secret=TOKEN,
            whatsapp_webhook_secret=TOKEN,
            whatsapp_verify_token=TOKEN,
            lease=-1,
        ),
    ],
)
def test_constructors(act: Callable[[], object]) -> None:
    """What is wrong is another argument than the token, which stands in the same frame."""
    error = caught(act)
    assert isinstance(error, ConfigError)
    assert leaks_of(error, TOKEN) == []


def test_arguments_that_are_secrets(server: LoopbackServer) -> None:
    """A secret that a call gets is masked in the frames of the call."""
    with (
        AccountsClient(server.base_url, team_token="team", max_attempts=1) as accounts,
        Client(server.base_url, agent_token="agent-1", max_attempts=1) as client,
    ):
        add_fault(server.fake, "reset", on="rest", count=6)
        refusal = {"error": "no"}
        add_fault(server.fake, "status", on="call", count=5, status=400, body=refusal)
        for act in (
            lambda: accounts.verify(TOKEN),
            lambda: accounts.register_agent("a", "A", callbackSecret=TOKEN),
            lambda: accounts.manage_agent_channel("a", "add", "phone", options={"apiToken": TOKEN}),
            lambda: accounts.reveal_team_token("o", TOKEN),
            lambda: accounts.abandon_org("o", poll_token=TOKEN),
            lambda: accounts.with_token(TOKEN).get_account(),
            lambda: client.call_tool("comms_ping", {"in": [{"authToken": TOKEN}]}),
            lambda: client.whatsapp.action("react", access_token=TOKEN),
            lambda: client.otp.verify(TOKEN),
            lambda: client.call_tool("comms_ping", agent_token=TOKEN),
            lambda: client.organization.register_provider("twilio", {"apiKey": TOKEN}),
        ):
            assert leaks_of(caught(act), TOKEN) == []


def test_webhooks(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the secrets nor the token that a webhook brings stand in what is logged."""
    delivery = HostSimulator(account_secret=TOKEN).account_verified(teamToken=POLL_TOKEN)

    def fail(*_: object) -> Any:
        raise RuntimeError("the host's own")

    signed = InboundHandler(account_webhook_secret=TOKEN, whatsapp_webhook_secret=TOKEN)
    signed.on_account_verified(fail)
    for handler in (signed, InboundHandler(account_webhook_secret=fail)):
        assert handler.handle("account", delivery.body, delivery.headers).status == 500
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert len(errors) == 2
    for error in errors:
        assert error is not None
        assert leaks_of(error, TOKEN, POLL_TOKEN) == []


class Box:
    """Shows nothing of what is inside."""

    def __init__(self, inside: object) -> None:
        self.inside = inside


def test_the_walk_finds_what_is_there() -> None:
    """The check itself: a plain token six steps away is found, one that is masked is not."""
    namespace: dict[str, Any] = {}
    source = "def fail(value):\n    raise KeyError('x')\n"
    exec(compile(source, "elsewhere.py", "exec"), namespace)  # noqa: S102 - a frame not of a test
    deep: Any = f"Bearer {TOKEN}".encode()
    for _ in range(6):
        deep = Box(deep)
    hidden = {"Authorization": Secret(TOKEN)}
    for value, found in ((deep, 1), (Box(deep), 0), (quote(TOKEN, safe=""), 1), (hidden, 0)):
        with pytest.raises(KeyError) as info:
            namespace["fail"](value)
        assert len(leaks_of(info.value, TOKEN)) == found


def test_passwords_of_proxies_and_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's, the client's own, and the headers for a gateway."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]  # from here on nobody listens there
    proxy = f"http://user:{TOKEN.replace('/', '')}@127.0.0.1:{port}"
    password = TOKEN.replace("/", "")

    def call(**options: Any) -> None:
        with Client("http://h.test", agent_token="agent-1", max_attempts=1, **options) as client:
            client.ping()

    for options in (
        {"proxies": {"http": proxy}},
        {"proxies": {"http": proxy}, "headers": {"Authorization": password}},
        {"proxies": {"http": f"{proxy}["}},
        {"headers": {"X-Key": f"{password}\n"}},
    ):
        assert leaks_of(caught(lambda: call(**options)), password) == []  # noqa: B023
    monkeypatch.setenv("http_proxy", proxy)
    assert leaks_of(caught(call), password) == []


def test_a_token_that_the_server_repeats_in_a_header(server: LoopbackServer) -> None:
    """Its answer is not in the frames of the refusal."""
    body = {"error": "no"}
    refusal: dict[str, Any] = {"status": 400, "body": body, "headers": {"X-Token": TOKEN}}
    with (
        AccountsClient(server.base_url, team_token=TOKEN, max_attempts=1) as accounts,
        Client(server.base_url, agent_token=TOKEN, max_attempts=1) as client,
    ):
        add_fault(server.fake, "status", on="stream", **refusal)
        assert leaks_of(caught(client.ping), TOKEN) == []
        add_fault(server.fake, "status", on="call", **refusal)
        assert leaks_of(caught(lambda: client.call_tool("comms_ping")), TOKEN) == []
        add_fault(server.fake, "status", on="rest", **refusal)
        assert leaks_of(caught(accounts.get_account), TOKEN) == []
