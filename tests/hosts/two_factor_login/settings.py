"""The settings of a project that uses django-two-factor-auth."""

from __future__ import annotations

SECRET_KEY = "of-the-login"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "two_factor",
    "two_factor.plugins.phonenumber",
    "buttdial_sync.contrib.django",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TWO_FACTOR_SMS_GATEWAY = "two_factor_gateway.ButtDial"
TWO_FACTOR_CALL_GATEWAY = "two_factor_gateway.ButtDial"
BUTT_DIAL = {
    "BASE_URL": "https://butt-dial.test",
    "AGENT_TOKEN": "agent-token-of-the-login",
    "CLIENT": {"timeout": 10.0},
}
