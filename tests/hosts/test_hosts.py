"""Two small host projects, whose own tests use nothing but the public test kit."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FLASK = Path(__file__).parent / "flask_desk"


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_django() -> None:
    """A Django project tests its views and webhooks with ``TestCase``, without pytest."""
    pytest.importorskip("django")
    settings = "tests.hosts.django_shop.settings"
    said = run(
        "django", "test", "tests.hosts.django_shop", "--pattern=tests.py",
        DJANGO_SETTINGS_MODULE=settings,
    )  # fmt: skip
    assert "Ran 5 tests" in said


@pytest.mark.parametrize("workers", ["0", "2"])
def test_flask(workers: str) -> None:
    """A Flask project tests with the plugin's fixtures, in one process and under xdist."""
    pytest.importorskip("flask")
    pytest.importorskip("xdist")
    said = run(
        "pytest", "-q", "-c", str(FLASK / "pytest.ini"), "-p", "xdist", "-n", workers,
        "-p", "buttdial_sync.testing.plugin", str(FLASK),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )  # fmt: skip
    assert "7 passed" in said


@pytest.mark.parametrize(
    ("project", "package", "tests"),
    [
        ("healthchecks", "django", "Ran 23 tests"),
        ("two_factor_login", "two_factor", "Ran 5 tests"),
    ],
)
def test_integrations_of_django_projects(project: str, package: str, tests: str) -> None:
    """What stands in ``examples/integrations`` passes tests as the projects write them."""
    if find_spec(package) is None:
        pytest.skip(f"needs {package}: pip install 'buttdial-sync[dev]'")
    folder = Path(__file__).parent / project
    said = run(
        "django", "test", "--pattern=test*.py", str(folder),
        DJANGO_SETTINGS_MODULE="settings",
        PYTHONPATH=os.pathsep.join(map(str, (folder, ROOT, ROOT / "examples" / "integrations"))),
    )  # fmt: skip
    assert tests in said
