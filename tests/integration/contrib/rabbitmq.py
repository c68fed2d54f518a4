"""A RabbitMQ of the tests' own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.integration.contrib.running import PATIENCE
from tests.integration.retry.postgres import step_down
from tests.ports import free_port

_PROGRAMS = Path("/usr/lib/rabbitmq/lib")
_LOOKS = 1200
_LOOK_EVERY = 0.1


def program() -> Path | None:
    """Return where RabbitMQ is, or None: it comes with ``apt-get install rabbitmq-server``."""
    # Not the one on the path: that insists on a user of its own.
    return next(iter(_PROGRAMS.glob("*/sbin/rabbitmq-server")), None)


class Broker:
    """
    A broker that runs.

    Attributes:
        url: Its address, for Celery.
    """

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self._process = process

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it accept connections and stay silent, for the time of a block."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)


@contextmanager
def running() -> Iterator[Broker]:
    """Run it on loopback, in a temporary directory; all of it ends with the block."""
    home = Path(tempfile.mkdtemp(prefix="rabbitmq-", dir="/tmp"))
    user = step_down(home)
    port, names = free_port(), free_port()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"tests-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(home),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        "RABBITMQ_CONFIG_FILE": str(home / "none"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
    }
    log = home / "output"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        output = stack.enter_context(log.open("wb"))

        def start(*command: str) -> subprocess.Popen[bytes]:
            options: dict[str, Any] = {"stdout": output, "stderr": output, **user}
            process = subprocess.Popen(
                command, env=environment, cwd="/", start_new_session=True, **options
            )
            stack.callback(_end, process)
            return process

        # Otherwise RabbitMQ starts one, which stays.
        start("epmd", "-port", str(names), "-address", "127.0.0.1")
        server = start(str(program()))
        _wait_for(port, server, log)
        yield Broker(f"amqp://127.0.0.1:{port}//", server)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    for _ in range(_LOOKS):
        assert process.poll() is None, log.read_text(errors="replace")
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(_LOOK_EVERY)
    raise AssertionError(log.read_text(errors="replace"))
