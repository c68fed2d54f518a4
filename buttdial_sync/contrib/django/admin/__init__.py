"""The admin pages of the outgoing messages, of what came in, and of questions to people."""

from __future__ import annotations

from buttdial_sync.contrib.django.admin.inbox import InboxEventAdmin
from buttdial_sync.contrib.django.admin.outbox import OutboxMessageAdmin
from buttdial_sync.contrib.django.admin.questions import AiloopQuestionAdmin

__all__ = ["AiloopQuestionAdmin", "InboxEventAdmin", "OutboxMessageAdmin"]
