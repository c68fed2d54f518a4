"""
A plugin of Alerta: tells people about severe alerts.

Its entry point, in the group ``alerta.plugins``, is ``buttdial = alerta_plugin:Tell``. Settings,
from Alerta's configuration or the environment:

- ``BUTT_DIAL_BASE_URL`` and ``BUTT_DIAL_AGENT_TOKEN``
- ``BUTT_DIAL_RECIPIENTS``: a list, or a text with commas
- ``BUTT_DIAL_CHANNEL``: ``sms`` unless it says otherwise
- ``BUTT_DIAL_SEVERITIES``: ``critical`` and ``major`` unless it says otherwise
"""

from __future__ import annotations

import logging
from typing import Any

from alerta.plugins import PluginBase

from buttdial_sync import shared_client

logger = logging.getLogger("alerta.plugins.buttdial")


class Tell(PluginBase):
    """Sends a message when a severe alert comes for the first time, or changes its severity."""

    def pre_receive(self, alert: Any, **kwargs: Any) -> Any:
        """Take the alert as it is."""
        return alert

    def post_receive(self, alert: Any, **kwargs: Any) -> Any:
        """Tell people. Whatever becomes of that, the alert is kept: faults are logged."""
        severities = self.get_config(
            "BUTT_DIAL_SEVERITIES", default=["critical", "major"], type=list, **kwargs
        )
        if alert.repeat or alert.severity not in severities:
            return alert
        recipients = self.get_config("BUTT_DIAL_RECIPIENTS", default=[], type=list, **kwargs)
        try:
            client = shared_client(
                self.get_config("BUTT_DIAL_BASE_URL", **kwargs),
                agent_token=self.get_config("BUTT_DIAL_AGENT_TOKEN", **kwargs),
                timeout=10.0,  # who reported the alert waits meanwhile
            )
            text = f"{alert.severity.upper()}: {alert.resource} {alert.event}: {alert.text}"
            channel = self.get_config("BUTT_DIAL_CHANNEL", default="sms", **kwargs)
            # One alert at one severity is one message for each person, on servers with keys.
            campaign = f"{alert.id}-{alert.severity}"
            client.send_many(recipients, text, channel, campaign=campaign, on_result=_log)
        except Exception:
            logger.exception("nobody was told about alert %s", alert.id)
        return alert

    def status_change(self, alert: Any, status: str, text: str, **kwargs: Any) -> None:
        """Tell nobody."""


def _log(recipient: str, result: Any) -> None:
    if not result.ok:
        said = "may have been" if result.unknown else "was not"
        logger.warning("%s %s told: %s", recipient, said, result.error)
