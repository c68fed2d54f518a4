"""The examples as processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buttdial_sync.testing import LoopbackServer

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
PATIENCE = 30.0


def environment(server: LoopbackServer, data: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BUTT_DIAL_BASE_URL": server.base_url,
        "BUTT_DIAL_AGENT_TOKEN": "agent-token",
        "WHATSAPP_VERIFY_TOKEN": "verify-me",
        "WHATSAPP_WEBHOOK_SECRET": "app-secret",
        "ACCOUNT_WEBHOOK_SECRET": "webhook-secret",
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "SHOP_DATA": str(data),
        "OPERATOR_TOKEN": "of-the-operators",
        **more,
    }


def python(*arguments: str, folder: str, env: dict[str, str]) -> str:
    """Run a program of an example to its end, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=EXAMPLES / folder,
        env=env,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


@contextmanager
def serving(*arguments: str, folder: str, env: dict[str, str], port: int) -> Iterator[str]:
    """Run a server of an example; give its address."""
    with started(*arguments, folder=folder, env=env) as process:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def started(*arguments: str, folder: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of an example, and end it."""
    process = subprocess.Popen([sys.executable, *arguments], cwd=EXAMPLES / folder, env=env)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    for _ in range(600):
        assert process.poll() is None, "the server ended"
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(0.05)
    raise AssertionError("the server does not listen")
