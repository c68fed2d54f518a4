"""The client of a workspace, one mixin per subject."""

from buttdial_sync.accounts.client import AccountsClient as AccountsClient

__all__ = ["AccountsClient"]
