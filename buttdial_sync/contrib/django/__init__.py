"""
The Django app: ``"buttdial_sync.contrib.django"`` in ``INSTALLED_APPS``.

Everything here may be imported before the apps are loaded.
"""

from __future__ import annotations

from buttdial_sync._extras import Extra

with Extra("django", "django"):
    from buttdial_sync.contrib.django.deliveries import DatabaseDeliveryLog
    from buttdial_sync.contrib.django.process import (
        get_accounts,
        get_ailoop,
        get_client,
        get_handler,
        get_operator_api,
        make_handler,
    )

__all__ = [
    "DatabaseDeliveryLog",
    "get_accounts",
    "get_ailoop",
    "get_client",
    "get_handler",
    "get_operator_api",
    "make_handler",
]
