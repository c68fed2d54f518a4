"""
The pytest plugin: a fake server as a fixture, and a guard against sending in earnest.

``fake_server`` answers behind the ``responses`` library at ``https://butt-dial.test``;
``loopback_server`` listens on a port of 127.0.0.1; ``butt_dial_client`` is a client of the first.
``happy_server`` is a fake Happy server, and ``happy_client`` a client of it.
Both Butt-Dial servers are the hosted one, unless the test is marked, as in
``@pytest.mark.butt_dial(dialect="open-source")``, or the fixture is parametrized with a dialect.
With ``base_url="*"`` in the mark ``fake_server`` answers at every address.

``ailoop_server`` is an ailoop server that listens, with people who answer; the mark for its
options is ``ailoop``, as in ``@pytest.mark.ailoop(generation="question")``.

``procedura_server`` is a fake Procedura server on a port of 127.0.0.1.

Each test begins as a new process does: tokens that another test had refused are not known any more.

While a test runs, the clients of this library connect to this machine only. The mark
``butt_dial_network`` and the ini option of the same name lift that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.happy.client import HappyClient
    from buttdial_sync.models.doctor import DoctorReport
    from buttdial_sync.testing.ailoop import FakeAiloopServer
    from buttdial_sync.testing.happy_server import FakeHappyServer
    from buttdial_sync.testing.loopback import LoopbackServer
    from buttdial_sync.testing.procedura import FakeProceduraServer
    from buttdial_sync.testing.server import FakeButtDialServer

T = TypeVar("T")

_MARKER = "butt_dial"
_BASE_URL = "base_url"
_AILOOP_MARKER = "ailoop"
_NETWORK = "butt_dial_network"
_FORGETTING = {
    "buttdial_sync.transport.token_breaker": "forget_token_breakers",
    "buttdial_sync.transport.token_location": "forget_token_locations",
}
_ADVICE = (
    "Use the fixture fake_server or loopback_server, or a mock; or let the test out with "
    f"@pytest.mark.{_NETWORK}, and all tests with the ini option {_NETWORK} = true."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the ini option known."""
    parser.addini(
        _NETWORK, "let the clients of buttdial_sync connect to other machines", type="bool"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    config.addinivalue_line(
        "markers", f"{_NETWORK}: the test's clients of buttdial_sync may leave this machine"
    )
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**options): options of FakeButtDialServer for fake_server and loopback_server, "
        'such as dialect="open-source"',
    )
    config.addinivalue_line(
        "markers",
        f"{_AILOOP_MARKER}(**options): options of FakeAiloopServer for ailoop_server, "
        'such as generation="question"',
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Keep the clients on this machine while a test runs, its fixtures included."""
    from buttdial_sync.transport.addresses import connection_guard

    before = connection_guard.advice  # of the test that runs this one, if one does
    may_leave = item.config.getini(_NETWORK) or item.get_closest_marker(_NETWORK) is not None
    connection_guard.advice = None if may_leave else _ADVICE
    _begin_as_a_new_process()
    yield
    connection_guard.advice = before


def _begin_as_a_new_process() -> None:
    """Forget the tokens that another test had refused, and where its server wanted them."""
    for name, forget in _FORGETTING.items():
        module = sys.modules.get(name)  # a test that uses no client need not load it
        if module is not None:
            getattr(module, forget)()


@pytest.fixture
def fake_server(request: pytest.FixtureRequest) -> Iterator[FakeButtDialServer]:
    """Give a fake server, installed at ``https://butt-dial.test``."""
    options = _options_of(request, _MARKER)
    server = _make_server(request)
    server.install(options.get(_BASE_URL, "https://butt-dial.test"))
    try:
        yield server
    finally:
        server.uninstall()


@pytest.fixture
def loopback_server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    """Give a fake server that listens; its core is ``loopback_server.fake``."""
    with _make_server(request).listen() as loopback:
        yield loopback


@pytest.fixture
def ailoop_server(request: pytest.FixtureRequest) -> Iterator[FakeAiloopServer]:
    """Give a fake ailoop server that listens; its ``url`` is what a client has to be given."""
    from buttdial_sync.testing.ailoop import FakeAiloopServer

    options = _options_of(request, _AILOOP_MARKER)
    with _made_by_mark(FakeAiloopServer, _AILOOP_MARKER, options) as server:
        yield server


@pytest.fixture
def butt_dial_client(fake_server: FakeButtDialServer) -> Iterator[Client]:
    """Give a client of ``fake_server``, which speaks for ``agent-1``; it is closed afterwards."""
    from buttdial_sync.client import Client

    base_url = fake_server.install()
    with Client(base_url, agent_id="agent-1", agent_token="agent-token") as client:  # noqa: S106
        yield client


@pytest.fixture
def happy_server() -> Iterator[FakeHappyServer]:
    """Give a fake Happy server that listens. It needs ``buttdial-sync[happy-testing]``."""
    from buttdial_sync.testing.happy_server import FakeHappyServer

    with FakeHappyServer() as server:
        yield server


@pytest.fixture
def happy_client(happy_server: FakeHappyServer) -> Iterator[HappyClient]:
    """Give a client of ``happy_server``; it is closed afterwards."""
    from buttdial_sync.happy.client import HappyClient

    with HappyClient(
        happy_server.server_url, token=happy_server.token, secret_b64=happy_server.secret_b64
    ) as client:
        yield client


@pytest.fixture
def procedura_server() -> Iterator[FakeProceduraServer]:
    """Give a fake Procedura server that listens; ``procedura_server.url`` is its address."""
    from buttdial_sync.testing.procedura import FakeProceduraServer

    with FakeProceduraServer() as server:
        yield server


@pytest.fixture
def doctor_report() -> DoctorReport:
    """
    Examine the server that the environment names. For a host's smoke test.

    Nothing is sent, and nothing that waits for the agent is taken: a stream that would empty the
    waiting queue is not opened, and the stages that need one are skipped.
    """
    from buttdial_sync.client import Client
    from buttdial_sync.doctor import run_diagnostic
    from buttdial_sync.transport.addresses import connection_guard

    connection_guard.advice = None  # a smoke test wants the real server
    is_over_rest = os.environ.get("BUTT_DIAL_SEND_VIA") == "rest"
    with Client.from_env(send_via="rest" if is_over_rest else "auto") as client:
        return run_diagnostic(client)


def _make_server(request: pytest.FixtureRequest) -> FakeButtDialServer:
    from buttdial_sync.testing.server import FakeButtDialServer

    options = _options_of(request, _MARKER)
    options.pop(_BASE_URL, None)
    if hasattr(request, "param"):
        options["dialect"] = request.param
    return _made_by_mark(FakeButtDialServer, _MARKER, options)


def _options_of(request: pytest.FixtureRequest, mark: str) -> dict[str, Any]:
    marker = request.node.get_closest_marker(mark)
    if marker is not None and marker.args:
        raise TypeError(f"@pytest.mark.{mark} takes its options by name")
    return {} if marker is None else dict(marker.kwargs)


def _made_by_mark(make: type[T], mark: str, options: dict[str, Any]) -> T:
    """Make a server with the options of a mark, or say which of them does not exist."""
    known = signature(make).parameters
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(known)}"
            raise TypeError(f"@pytest.mark.{mark} has no option {name!r}{hint}")
    return make(**options)
