"""The rows that a transport meets."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.db import models

from hc.api.transports import TransportError

TRANSPORTS = {"bd_sms": "Sms", "bd_whatsapp": "WhatsApp", "bd_call": "Call"}


class Check(models.Model):
    """What is watched."""

    code = models.UUIDField(default=uuid.uuid4)
    name = models.CharField(max_length=100)

    def name_then_code(self) -> str:
        """Return its name."""
        return str(self.name or self.code)


@dataclass
class Flip:
    """A check that changes its status."""

    owner: Check
    new_status: str


@dataclass
class PhoneConf:
    """A channel's phone."""

    value: str
    notify_up: bool = True
    notify_down: bool = True


class Channel(models.Model):
    """Whom to tell, and how."""

    kind = models.CharField(max_length=20)
    value = models.TextField()
    disabled = models.BooleanField(default=False)
    last_error = models.CharField(max_length=200, blank=True)

    @property
    def phone(self) -> PhoneConf:
        """Return its phone."""
        return PhoneConf(**json.loads(self.value))

    @property
    def transport(self) -> Any:
        """Return what tells."""
        module = import_module("healthchecks_transport")
        return getattr(module, TRANSPORTS[self.kind])(self)

    def notify(self, flip: Flip) -> str:
        """Tell, and write down what came of it."""
        if self.transport.is_noop(flip.new_status):
            return "no-op"
        n = Notification(owner=flip.owner, channel=self, check_status=flip.new_status)
        n.error = "Sending"
        n.save()
        error, disabled = "", self.disabled
        try:
            self.transport.notify(flip, notification=n)
        except TransportError as e:
            disabled = True if e.permanent else disabled
            error = e.message
        Notification.objects.filter(id=n.id).update(error=error)
        Channel.objects.filter(id=self.id).update(last_error=error, disabled=disabled)
        return error


class Notification(models.Model):
    """One attempt to tell somebody."""

    code = models.UUIDField(default=uuid.uuid4, unique=True)
    owner = models.ForeignKey(Check, models.CASCADE)
    channel = models.ForeignKey(Channel, models.CASCADE)
    check_status = models.CharField(max_length=6)
    created = models.DateTimeField(auto_now_add=True)
    error = models.CharField(max_length=200, blank=True)
