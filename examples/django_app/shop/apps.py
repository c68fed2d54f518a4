"""The shop's app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The shop."""

    name = "shop"

    def ready(self) -> None:
        """Connect the receivers."""
        from shop import messages  # noqa: F401 - importing connects them
