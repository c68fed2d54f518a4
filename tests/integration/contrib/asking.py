"""
A Django project that asks a person: ``asking.py URL DATABASE SEEN works|fails COMMAND…``.

The command ``post`` asks; any other is a management command. The handler writes a line of JSON for
each answer to the file SEEN, or fails.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import execute_from_command_line

URL, DATABASE, SEEN, HOW, *COMMAND = sys.argv[1:]
PATIENT = 30.0


def handler(answered: Any) -> None:
    if HOW == "fails":
        raise RuntimeError("the host's fault")
    line = json.dumps([answered.message_id, answered.about, bool(answered.result)])
    with Path(SEEN).open("a", encoding="ascii") as file:
        file.write(f"{line}\n")


def post() -> None:
    from buttdial_sync.contrib.django import get_ailoop
    from buttdial_sync.contrib.django.questions import get_questions

    execute_from_command_line(["manage.py", "migrate", "--verbosity", "0"])
    about = {"order": 42}
    sys.stdout.write(
        get_ailoop().post_authorization(get_questions(), "Cancel order 42", about=about)
    )


if __name__ == "__main__":
    sys.modules["asking"] = sys.modules[__name__]
    settings.configure(
        INSTALLED_APPS=["buttdial_sync.contrib.django"],
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": DATABASE,
                "OPTIONS": {"timeout": PATIENT},
            }
        },
        BUTT_DIAL={
            "AILOOP": {"server_url": URL, "timeout": PATIENT, "accept_timeout": PATIENT},
            "ON_ANSWER": "asking.handler",
        },
    )
    django.setup()
    if COMMAND == ["post"]:
        post()
    else:
        execute_from_command_line(["manage.py", *COMMAND])
