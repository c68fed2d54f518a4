"""The Flask extension: ``ButtDial(app, inbound=…)``."""

from __future__ import annotations

from buttdial_sync._extras import Extra

with Extra("flask", "flask"):
    from buttdial_sync.contrib.flask.extension import ButtDial

__all__ = ["ButtDial"]
