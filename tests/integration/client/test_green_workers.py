"""gevent and eventlet, which replace sockets, locks and queues, and may do so late."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.client.test_network_options import CERTIFICATE, over_tls
from tests.integration.client.test_workers import HERE, PATIENCE, environment, session_per_thread
from tests.ports import free_port

pytestmark = pytest.mark.slow

GUNICORN = (sys.executable, "-W", "ignore", "-m", "gunicorn", "--worker-class", "gevent")
UWSGI = shutil.which("uwsgi", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))

needs_gevent = pytest.mark.skipif(not importlib.util.find_spec("gevent"), reason="needs gevent")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        loopback.fake.on_tool(
            "comms_send_message", lambda args: {"messageId": f"id-{args['body']}"}
        )
        yield loopback


def answer_all(server: LoopbackServer, scheme: str, command: Sequence[str]) -> None:
    """Start a web server of two processes, and ask it from eight threads at once."""
    address = f"127.0.0.1:{free_port()}"
    url = over_tls(server, wants_client=False) if scheme == "https" else server.base_url
    process = subprocess.Popen(
        [*command, address],
        env=environment(server, BUTT_DIAL_BASE_URL=url, BUTT_DIAL_CA_BUNDLE=CERTIFICATE),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        session_per_thread(f"http://{address}", process)
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert len(server.fake.sent_messages) == 8 * 15
    assert server.fake.streams_opened <= 2


@needs_gevent
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("preload", "scheme"), [([], "https"), (["--preload"], "http"), (["--preload"], "https")]
)
def test_gunicorns_gevent_worker(server: LoopbackServer, preload: list[str], scheme: str) -> None:
    """With --preload the application, and the client with it, is there before gevent patches."""
    command = [*GUNICORN, *preload, "--workers", "2", "--log-level", "error"]
    answer_all(server, scheme, [*command, "wsgi_app:application", "--bind"])


@needs_gevent
@pytest.mark.skipif(UWSGI is None, reason="needs uWSGI: pip install uwsgi (with a C compiler)")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_uwsgi_with_gevent(server: LoopbackServer, scheme: str) -> None:
    """It loads the application, forks, and patches then; it runs no fork hooks."""
    answer_all(
        server,
        scheme,
        [
            *(str(UWSGI), "--master", "--die-on-term", "--worker-reload-mercy", "1"),
            *("--home", sys.prefix, "--processes", "2", "--gevent", "50"),
            *("--gevent-monkey-patch", "--module", "wsgi_app:application", "--http-socket"),
        ],
    )


@pytest.mark.parametrize("moment", ["early", "late"])
@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_greenlets(server: LoopbackServer, kind: str, moment: str) -> None:
    """Greenlets share a client as threads do, and it can be closed."""
    if not importlib.util.find_spec(kind):
        pytest.skip(f"needs {kind}")
    subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "green_program.py"), kind, moment],
        env=environment(server),
        check=True,
        timeout=120,
    )
    assert server.fake.streams_opened == 1
