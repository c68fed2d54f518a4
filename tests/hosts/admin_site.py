"""The example's admin under gunicorn, and a real browser that opens it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from buttdial_sync.testing import FakeButtDialServer
from tests.integration.contrib.running import environment, python, serving
from tests.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = "django_app"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MISSING = "needs chromium: apt-get install chromium"
PATIENCE = 30_000.0  # milliseconds, as playwright has them
_SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def served(data: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Serve the example with rows in every state; give its address and its environment."""
    with FakeButtDialServer().listen() as server:
        env = environment(server, data, BUTT_DIAL_AGENT_ID="orders")
        python("manage.py", "migrate", "--verbosity", "0", folder=FOLDER, env=env)
        python("-m", "tests.hosts.admin_rows", folder=FOLDER, env=env)
        port = free_port()
        gunicorn = ("-m", "gunicorn", "--threads", "4", "--bind", f"127.0.0.1:{port}")
        arguments = (*gunicorn, "--log-level", "error", "shop.wsgi")
        with serving(*arguments, folder=FOLDER, env=env, port=port) as url:
            yield url, env


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start the machine's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_SWITCHES, timeout=PATIENCE
        )
        yield browser
        browser.close()


def log_in(page: Page, url: str, user: str, password: str) -> None:
    """Log in to the admin as a person does."""
    page.goto(f"{url}/admin/login/?next=/admin/")
    page.fill("#id_username", user)
    page.fill("#id_password", password)
    page.click("input[type=submit]")
    page.wait_for_url(f"{url}/admin/")
