"""What holds for every test: a clean environment, nothing remembered, no thread left behind."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from buttdial_sync import shared
from buttdial_sync.listening.request_budget import forget_request_budgets
from buttdial_sync.testing import plugin
from buttdial_sync.transport.addresses import failed_addresses
from buttdial_sync.transport.push_router import forget_warnings

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_OUR_THREADS = ("buttdial-sync", "fake-butt-dial", "fake-ailoop")
_SECONDS_TO_END = 5.0

# No deadline: no test may depend on how fast the machine is.
settings.register_profile(
    "everyday",
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("nightly", settings.get_profile("everyday"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "everyday"))


# A shell's background jobs ignore Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    # An installed package has loaded it by its entry point; twice is an error.
    if not config.pluginmanager.is_registered(plugin):
        config.pluginmanager.register(plugin)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than processors: tests wait for sockets, threads and programs."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # Ten thousand tests live to the end: no collection of garbage has to look at them, now or
    # later.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("BUTT_DIAL_", "AILOOP_")) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    forget_request_budgets()
    forget_warnings()
    failed_addresses.clear()


@pytest.fixture(autouse=True)
def _shared_clients_are_closed() -> Iterator[None]:
    # While one is open, the connections of the process are.
    yield
    for client in list(shared._shared._clients.values()):
        client.close()
    shared._shared._clients.clear()


@pytest.fixture
def closed_port() -> Iterator[str]:
    """The address of a port that is taken, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.name.startswith(_OUR_THREADS)
    ]
    for thread in left:
        thread.join(_SECONDS_TO_END)
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"threads outlive the test: {alive}"
