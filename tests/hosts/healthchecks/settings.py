"""The settings of the stand-in."""

from __future__ import annotations


def _no_pause(_: float) -> None:
    """Let the tests not wait between attempts."""


SECRET_KEY = "of-healthchecks"
INSTALLED_APPS = ["hc.api", "buttdial_sync.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
BUTT_DIAL = {
    "BASE_URL": "https://butt-dial.test",
    "AGENT_TOKEN": "agent-token-of-healthchecks",
    "CLIENT": {"timeout": 15.0, "sleep": _no_pause},
}
