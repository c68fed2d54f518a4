"""The app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.signals import setting_changed

from buttdial_sync.contrib.django.conf import NAME
from buttdial_sync.contrib.django.process import forget_everything


class ButtDialConfig(AppConfig):
    """The Django app of buttdial-sync."""

    name = "buttdial_sync.contrib.django"
    label = "buttdial_sync"
    verbose_name = "Butt-Dial"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from buttdial_sync.contrib.django import checks  # noqa: F401 - importing registers them

        setting_changed.connect(_on_setting_changed, dispatch_uid=self.name)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting == NAME:
        forget_everything()
