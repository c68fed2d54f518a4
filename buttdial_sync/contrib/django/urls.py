"""
The app's addresses, to be included under a prefix of the host's choice.

``operator/…`` is the operator API, ``<channel>/`` a webhook: ``whatsapp/``, ``butt-dial/``,
``account/``.
"""

from __future__ import annotations

from django.db import connections, transaction
from django.urls import path, re_path

from buttdial_sync.contrib.django import views

app_name = "buttdial_sync"

# With ATOMIC_REQUESTS a claim would be unseen by the other workers until the request has ended.
_webhook = views.webhook
for _alias in connections:
    _webhook = transaction.non_atomic_requests(using=_alias)(_webhook)

urlpatterns = [
    # Senders do not follow the redirect that Django makes of a missing slash.
    re_path(r"^(?P<channel>[a-z-]+)/?$", _webhook, name="webhook"),
    path("operator/<path:path>", views.operator, name="operator"),
]
