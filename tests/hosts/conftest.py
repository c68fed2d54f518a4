"""The hosts' own tests run in processes of their own: see ``test_hosts.py``."""

from __future__ import annotations

collect_ignore = ["django_shop", "flask_desk", "healthchecks", "two_factor_login"]
