"""
What a webhook costs, beside a bare view that reads the body and checks one HMAC.

``python -m tests.benchmarks.webhooks``: each application under gunicorn with two workers, all of
them in turn, the load from this process over loopback. Every request is another message.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import attrs

from buttdial_sync import InboundHandler
from buttdial_sync.testing.simulate import HostSimulator
from tests.benchmarks.figures import Figure, table
from tests.benchmarks.settings import Settings

_ROOT = Path(__file__).parents[2]
_SECRET = "app-secret"
_HEADER = "X-Hub-Signature-256"
_WORKERS = 2
_CONNECTIONS = 4
_PER_ROUND = 400
_TARGET = 1.5
_DATABASE = "WEBHOOKS_DATABASE"
_PAIRS = {
    "Flask, log in memory": ("flask_ours", "flask_bare"),
    "Django, log in memory": ("django_ours", "django_bare"),
    "Django, log in SQLite": ("django_database", "django_bare"),
}
_SQLITE = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"


def _ignore(_: object) -> None:
    """Handle a message."""


memory_handler = InboundHandler(whatsapp_webhook_secret=_SECRET)
memory_handler.on_message(_ignore)


def _is_signed(body: bytes, header: str) -> bool:
    wanted = hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"sha256={wanted}", header)


def flask_bare() -> Any:
    """Return Flask with the bare view."""
    from flask import Flask, Response, request

    app = Flask(__name__)

    @app.post("/hooks/whatsapp/")
    def bare() -> Response:
        is_signed = _is_signed(request.get_data(), request.headers.get(_HEADER, ""))
        return Response("{}", 200 if is_signed else 401, content_type="application/json")

    return app


def flask_ours() -> Any:
    """Return Flask with the extension."""
    from flask import Flask

    from buttdial_sync.contrib.flask import ButtDial

    app = Flask(__name__)
    ButtDial(app, inbound=memory_handler, url_prefix="/hooks")
    return app


def django_bare() -> Any:
    """Return Django with the bare view."""
    from django.http import HttpResponse
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    @csrf_exempt
    def bare(request: Any) -> HttpResponse:
        is_signed = _is_signed(request.body, request.headers.get(_HEADER, ""))
        return HttpResponse("{}", status=200 if is_signed else 401, content_type="application/json")

    return _django(lambda: [path("hooks/whatsapp/", bare)], {})


def django_ours() -> Any:
    """Return Django with the app, deliveries in memory."""
    return _django(_our_urls, {"HANDLER": f"{__name__}.memory_handler"})


def django_database() -> Any:
    """Return Django with the app as it comes: signals, deliveries in the database."""
    application = _django(_our_urls, {"WHATSAPP_WEBHOOK_SECRET": _SECRET})
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    connections.close_all()
    return application


def _our_urls() -> list[Any]:
    from django.urls import include, path

    return [path("hooks/", include("buttdial_sync.contrib.django.urls"))]


def _django(urls: Callable[[], list[Any]], butt_dial: dict[str, Any]) -> Any:
    from types import ModuleType

    from django.conf import settings
    from django.core.wsgi import get_wsgi_application

    module: Any = ModuleType("webhooks_urls")
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=module,
        INSTALLED_APPS=["buttdial_sync.contrib.django"],
        USE_TZ=True,
        BUTT_DIAL=butt_dial,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": os.environ[_DATABASE],
                "CONN_MAX_AGE": None,
                "OPTIONS": {"timeout": 20, "init_command": _SQLITE},
            }
        },
    )
    application = get_wsgi_application()
    module.urlpatterns = urls()
    return application


@attrs.define
class Load:
    """
    One application and the times that its answers took.

    Attributes:
        port: Where it listens.
        seconds: Of each request.
        elapsed: Of all rounds together.
    """

    port: int
    seconds: list[float] = attrs.field(factory=list)
    elapsed: float = 0.0

    def round(self, requests: list[bytes]) -> None:
        """Send requests over several connections at once, each over one of its own."""
        began = time.perf_counter()
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            self.seconds += pool.map(self._send, requests)
        self.elapsed += time.perf_counter() - began

    def figures(self) -> dict[str, float]:
        """Return milliseconds: per request at full load, in the median, at the 99th percentile."""
        return {
            "time per request": self.elapsed / len(self.seconds) * 1000,
            "median": median(self.seconds) * 1000,
            "99th percentile": quantiles(self.seconds, n=100)[98] * 1000,
        }

    def _send(self, request: bytes) -> float:
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port), 30.0) as connection:
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"not handled: {answer[:200]!r}")
        return time.perf_counter() - began


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the figures."""
    names = list(dict.fromkeys(name for pair in _PAIRS.values() for name in pair))
    simulator = HostSimulator(whatsapp_secret=_SECRET)
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory())
        loads = {name: Load(running.enter_context(_serving(name, folder))) for name in names}
        for load in loads.values():
            load.round(_requests(simulator, _PER_ROUND))
            load.seconds, load.elapsed = [], 0.0
        for _ in range(max(1, settings.rounds // 3)):
            for load in loads.values():
                load.round(_requests(simulator, _PER_ROUND))
    for what, (ours, bare) in _PAIRS.items():
        yield from _compared(what, loads[ours].figures(), loads[bare].figures())


def _compared(what: str, ours: dict[str, float], bare: dict[str, float]) -> Iterator[Figure]:
    per_second = 1000 / ours["time per request"], 1000 / bare["time per request"]
    yield Figure(
        what=f"{what}: requests per second",
        ours=per_second[0],
        peer=per_second[1],
        result=per_second[1] / per_second[0],
        target=_TARGET,
    )
    for name in ("median", "99th percentile"):
        yield Figure(
            what=f"{what}: {name}",
            ours=ours[name],
            peer=bare[name],
            unit="ms",
            result=ours[name] / bare[name],
            target=_TARGET,
        )


def _requests(simulator: HostSimulator, count: int) -> list[bytes]:
    return [_request(simulator.whatsapp({"text": {"body": "Hello"}})) for _ in range(count)]


def _request(delivery: Any) -> bytes:
    headers = {
        "Host": "127.0.0.1",
        "Connection": "close",
        "Content-Length": str(len(delivery.body)),
        **delivery.headers,
    }
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"POST /hooks/whatsapp/ HTTP/1.1\r\n{''.join(lines)}\r\n"
    return head.encode() + bytes(delivery.body)


@contextmanager
def _serving(name: str, folder: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--workers", str(_WORKERS), "--preload"),
            *("--bind", f"127.0.0.1:{port}", "--log-level", "error"),
            f"{__name__ if __name__ != '__main__' else 'tests.benchmarks.webhooks'}:{name}()",
        ],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT), _DATABASE: f"{folder}/{name}.sqlite3"},
    )
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int) -> None:
    pause = threading.Event()
    for _ in range(400):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(0.05)
    raise RuntimeError("the server does not listen")


if __name__ == "__main__":
    figures = list(measure(Settings()))
    sys.stdout.write(f"{table(figures)}\n")
    sys.exit(0 if all(figure.met for figure in figures) else 1)
