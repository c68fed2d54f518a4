"""The project of the Django page, made of its blocks: it runs, and so do its own tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import requests

from buttdial_sync.testing import FakeButtDialServer, HostSimulator
from buttdial_sync.testing.fake import FakeServer
from tests.integration.contrib.running import started, wait_for_port
from tests.ports import free_port

pytest.importorskip("django")
pytest.importorskip("pytest_django")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "django.rst"
COMMANDS = ROOT / "buttdial_sync" / "contrib" / "django" / "management" / "commands"
ADDRESS = "https://butt-dial.example"
CUSTOMER = "+14155550123"
PATIENCE = 60.0
_BLOCK = re.compile(
    r"^\.\. code-block:: (?:python|ini)\n   :caption: (?P<caption>.+)\n\n"
    r"(?P<code>(?:\s*\n| +.*\n)+)",
    re.MULTILINE,
)


def blocks() -> list[tuple[str, str]]:
    """The captions and the code of the page's blocks, in its order."""
    return [
        (found["caption"], textwrap.dedent(found["code"]))
        for found in _BLOCK.finditer(PAGE.read_text("utf-8"))
    ]


def run(
    *arguments: str, folder: Path, env: dict[str, str] | None = None, fails: bool = False
) -> str:
    """Run Python in the project, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the project as the page says."""
    folder: Path = tmp_path_factory.mktemp("page")
    run("-m", "django", "startproject", "shop", ".", folder=folder)
    for caption, code in blocks():
        name, _, where = caption.partition(", ")
        file = folder / name
        assert where in {"", "at its end"}
        assert file.exists() or not where, f"{name} is not there yet"
        with file.open("a" if where else "w", encoding="utf-8") as written:
            written.write(code)
    return folder


def test_the_projects_own_tests(project: Path) -> None:
    """Those of Django's runner and those of pytest-django, as they stand on the page."""
    assert "Ran 2 tests" in run("manage.py", "test", folder=project)
    plugins = ("-p", "pytest_django.plugin", "-p", "buttdial_sync.testing.plugin")
    said = run(
        "-m", "pytest", "-q", *plugins, "shop",
        folder=project, env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert "2 passed" in said


def test_the_project_runs(project: Path) -> None:
    """It is sound, answers a question on WhatsApp, and sends what is in its outbox."""
    settings = project / "shop" / "settings.py"
    written = settings.read_text("utf-8")
    with FakeButtDialServer().listen() as server:
        env = {
            "BUTT_DIAL_AGENT_TOKEN": "agent-token",
            "WHATSAPP_VERIFY_TOKEN": "verify-me",
            "WHATSAPP_WEBHOOK_SECRET": "app-secret",
        }
        try:
            settings.write_text(written.replace(ADDRESS, server.base_url), "utf-8")
            use(project, server.fake, env)
        finally:
            settings.write_text(written, "utf-8")


def use(project: Path, fake: FakeServer, env: dict[str, str]) -> None:
    run("manage.py", "check", "--fail-level", "WARNING", folder=project, env=env)
    run("manage.py", "migrate", "--verbosity", "0", folder=project, env=env)
    port = free_port()
    arguments = ("manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
    question = HostSimulator(whatsapp_secret="app-secret").whatsapp({"text": {"body": "Open?"}})
    with started(*arguments, folder=str(project), env={**os.environ, **env}) as process:
        wait_for_port(port, process)
        url = f"http://127.0.0.1:{port}/butt-dial/whatsapp/"
        for _ in range(2):  # a sender that repeats itself is answered once
            answer = requests.post(
                url, data=question.body, headers=dict(question.headers), timeout=PATIENCE
            )
            assert answer.status_code == 200, answer.text
        query = {"hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "42"}
        assert requests.get(url, params=query, timeout=PATIENCE).text == "42"
    fake.assert_sent_once(body="We got your message: Open?")
    enqueued = f"from shop.views import enqueue; enqueue({CUSTOMER!r}, 'Your order shipped.')"
    run("manage.py", "shell", "-c", enqueued, folder=project, env=env)
    assert run("manage.py", "buttdial_retry", "--drain", folder=project, env=env).startswith("1 ")
    fake.assert_sent_once(to=CUSTOMER, body="Your order shipped.")


def test_a_misspelt_option_is_found_by_check(project: Path) -> None:
    """As the page says."""
    settings = project / "shop" / "settings.py"
    written = settings.read_text("utf-8")
    try:
        settings.write_text(f'{written}\nBUTT_DIAL["CLIENT"] = {{"timeot": 3}}\n', "utf-8")
        said = run("manage.py", "check", folder=project, fails=True)
    finally:
        settings.write_text(written, "utf-8")
    assert "'timeot' is unknown: did you mean 'timeout'?" in said


def test_the_page_is_complete() -> None:
    """It names every setting and every command."""
    from buttdial_sync.contrib.django.conf import KEYS

    text = PAGE.read_text("utf-8")
    names = [file.stem for file in COMMANDS.glob("buttdial_*.py")]
    assert len(names) >= 7
    assert [name for name in (*sorted(KEYS), *names) if f"``{name}``" not in text] == []
