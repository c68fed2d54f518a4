"""Where an extra is not installed, its import says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

WITHOUT = """
import sys
for package in sys.argv[3:]:
    sys.modules[package] = None
try:
    exec(f"from {sys.argv[1]} import {sys.argv[2]}")
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "name", "package", "extra"),
    [
        ("buttdial_sync.testing", "MockedServer", "responses", "testing"),
        ("buttdial_sync.testing", "FakeHappyServer", "socketio", "happy-testing"),
        ("buttdial_sync.contrib.django", "get_client", "django", "django"),
        ("buttdial_sync.contrib.flask", "ButtDial", "flask", "flask"),
        ("buttdial_sync.contrib.celery", "ButtDialTasks", "celery", "celery"),
        ("buttdial_sync.contrib.opentelemetry", "Telemetry", "opentelemetry", "opentelemetry"),
        ("buttdial_sync.contrib.prometheus", "OutboxCollector", "prometheus_client", "prometheus"),
        ("buttdial_sync.retry", "SQLAlchemyRepository", "sqlalchemy", "sqlalchemy"),
        ("buttdial_sync.happy", "HappyClient", "nacl", "happy"),
        ("buttdial_sync.procedura", "RemoteAgent", "websockets", "procedura"),
        ("buttdial_sync.ailoop", "AiloopClient", "websockets", "websocket"),
    ],
)
def test_the_extra_is_named(module: str, name: str, package: str, extra: str) -> None:
    """Without the package, as a fresh installation without the extra is."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, name, package],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"pip install 'buttdial-sync[{extra}]'" in done.stdout, done.stdout + done.stderr
    assert package in done.stdout


def test_another_missing_module_is_told_as_it_is() -> None:
    """A broken installation is not taken for a missing extra."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "buttdial_sync.contrib.flask", "ButtDial", "attrs"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install" not in done.stdout
    assert "attrs" in done.stdout
