"""Where an extra is not installed, its import says what to install."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# Module, name, the package that is missing, and the extra that installs it.
CASES = [
    ("buttdial_sync.testing", "MockedServer", "responses", "testing"),
    ("buttdial_sync.testing", "FakeHappyServer", "socketio", "happy-testing"),
    ("buttdial_sync.contrib.django", "get_client", "django", "django"),
    ("buttdial_sync.contrib.flask", "ButtDial", "flask", "flask"),
    ("buttdial_sync.contrib.celery", "ButtDialTasks", "celery", "celery"),
    ("buttdial_sync.contrib.prometheus", "OutboxCollector", "prometheus_client", "prometheus"),
    ("buttdial_sync.contrib.opentelemetry", "Telemetry", "opentelemetry", "opentelemetry"),
    ("buttdial_sync.retry", "SQLAlchemyRepository", "sqlalchemy", "sqlalchemy"),
    ("buttdial_sync.happy", "HappyClient", "nacl", "happy"),
    ("buttdial_sync.procedura", "RemoteAgent", "websockets", "procedura"),
    ("buttdial_sync.ailoop", "AiloopClient", "websockets", "websocket"),
    ("buttdial_sync.contrib.flask", "ButtDial", "attrs", None),
]
# One process for all of them: each begins as if nothing of ours, nor the package, was imported.
PROGRAM = """
import json, sys
told = []
for module, name, package, _ in json.loads(sys.argv[1]):
    for each in list(sys.modules):
        if each.partition(".")[0] in {"buttdial_sync", package}:
            del sys.modules[each]
    sys.modules[package] = None
    try:
        exec(f"from {module} import {name}")
        told.append("imported")
    except ImportError as error:
        told.append(str(error))
    del sys.modules[package]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> list[str]:
    """Return what each import says."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(CASES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c[0]}-{c[2]}" for c in CASES])
def test_the_extra_is_named(number: int, told: list[str]) -> None:
    """What is broken in another way is not taken for a missing extra."""
    _, _, package, extra = CASES[number]
    assert package in told[number]
    if extra is None:
        assert "pip install" not in told[number]
    else:
        assert f"pip install 'buttdial-sync[{extra}]'" in told[number]
