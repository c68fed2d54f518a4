"""The settings of the shop."""

from __future__ import annotations

SECRET_KEY = "of-the-shop"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.hosts.django_shop.urls"
INSTALLED_APPS = ["buttdial_sync.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
BUTT_DIAL = {
    "BASE_URL": "https://butt-dial.test",
    "AGENT_TOKEN": "agent-token",
    "WHATSAPP_VERIFY_TOKEN": "verify-me",
    "WHATSAPP_WEBHOOK_SECRET": "app-secret",
}
