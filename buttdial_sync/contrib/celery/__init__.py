"""Celery tasks: ``ButtDialTasks(app, …)``."""

from __future__ import annotations

from buttdial_sync._extras import Extra

with Extra("celery", "celery", "kombu"):
    from buttdial_sync.contrib.celery.tasks import ButtDialTasks, StoredMessages

__all__ = ["ButtDialTasks", "StoredMessages"]
