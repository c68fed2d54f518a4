"""The settings of the tests' Django project."""

from __future__ import annotations

SECRET_KEY = "of-the-tests"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.unit.contrib.django_urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "buttdial_sync.contrib.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "ATOMIC_REQUESTS": True,
    }
}
USE_TZ = True
BUTT_DIAL = {
    "BASE_URL": "https://butt-dial.test",
    "AGENT_TOKEN": "agent-token",
    "TEAM_TOKEN": "team-token",
    "WHATSAPP_VERIFY_TOKEN": "verify-me",
    "WHATSAPP_WEBHOOK_SECRET": "app-secret",
    "ACCOUNT_WEBHOOK_SECRET": "webhook-secret",
    "ALLOW_UNSIGNED": ["butt-dial"],
    "AGENT_DIRECTORY": "tests.unit.operator.host.Directory",
    "FAILED_MESSAGES": "tests.unit.operator.host.FailedMessages",
    "ON_UNDELIVERED": "tests.unit.contrib.undelivered.keep",
}
