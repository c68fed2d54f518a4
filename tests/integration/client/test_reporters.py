"""What Sentry, Django's debug page and error mail, and rich show of a failure: no token."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TOKEN = "s3cr3t/T+ken"
ENCODED = "s3cr3t%2FT%2Bken"
PATIENCE = 120.0


def shown(*arguments: str) -> dict[str, Any]:
    """Run the host; in a process of its own, because Sentry patches the standard library."""
    host = subprocess.run(
        [sys.executable, "-m", "tests.integration.client.reporters", *arguments],
        cwd=ROOT,
        input=TOKEN,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert host.returncode == 0, host.stderr
    found: dict[str, Any] = json.loads(host.stdout)
    return found


def test_locals_are_shown_but_not_the_token() -> None:
    """Each tool shows the locals of all frames; the token is not among them."""
    reports = shown()
    crumb = f'"http.query":"token={ENCODED}"'  # Sentry's own record of each request
    assert crumb in "".join(reports["sentry"])
    for kind in ("pages", "mails", "sentry"):
        assert len(reports[kind]) >= reports["count"] > 10
        text = "\n".join(reports[kind]).replace(crumb, "")
        assert "a local of the host" in text
        assert "***" in text
        assert TOKEN not in text
        assert ENCODED not in text


def test_the_recipe_for_breadcrumbs() -> None:
    """With the hook of ``docs/security.rst`` Sentry gets no token at all."""
    text = "\n".join(shown("scrub")["sentry"])
    assert '"category":"httplib"' in text
    assert TOKEN not in text
    assert ENCODED not in text


def test_the_recipe_is_that_of_the_docs() -> None:
    """What is tested is what is written."""
    source = (ROOT / "tests" / "integration" / "client" / "reporters.py").read_text("utf-8")
    recipe = 'crumb.get("data", {}).pop("http.query", None)'
    assert recipe in source
    assert recipe in (ROOT / "docs" / "security.rst").read_text("utf-8")
