"""
A gateway of django-two-factor-auth: codes by SMS or by a spoken call.

In the settings of the project::

    INSTALLED_APPS += ["buttdial_sync.contrib.django"]
    BUTT_DIAL = {"BASE_URL": "https://…", "AGENT_TOKEN": "…", "CLIENT": {"timeout": 10.0}}
    TWO_FACTOR_SMS_GATEWAY = "two_factor_gateway.ButtDial"
    TWO_FACTOR_CALL_GATEWAY = "two_factor_gateway.ButtDial"
    TWO_FACTOR_WHATSAPP = False  # True: the "SMS" is a WhatsApp message

The wizard shows its own error where a gateway raises. A code that may have been sent does not
raise: the user looks at the phone and asks for another one if there is nothing.
"""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext

from buttdial_sync import OutcomeUnknownError
from buttdial_sync.contrib.django import get_client

logger = logging.getLogger(__name__)


class ButtDial:
    """Sends codes through the project's client."""

    def send_sms(self, device: Any, token: str) -> None:
        """
        Send a code as a text.

        Raises:
            ButtDialError: It was certainly not sent.
        """
        channel = "whatsapp" if getattr(settings, "TWO_FACTOR_WHATSAPP", False) else "sms"
        text = render_to_string("two_factor/twilio/sms_message.html", {"token": token})
        result = get_client().send_message(device.number.as_e164, text.strip(), channel)
        if result.unknown:
            logger.warning("a code may have been sent: %s", result.error)
            return
        result.raise_for_outcome()

    def make_call(self, device: Any, token: str) -> None:
        """
        Call the user, and say a code twice, digit by digit.

        Raises:
            ButtDialError: There was certainly no call.
        """
        digits = ", ".join(token)
        said = gettext("Your code is")
        language = translation.get_language()
        logger.debug("calling for a code, in %s", language)
        try:
            get_client().voice.send_message(device.number.as_e164, f"{said}: {digits}. {digits}.")
        except OutcomeUnknownError as error:
            logger.warning("a code may have been spoken: %s", str(error))
