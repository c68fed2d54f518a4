"""
A plugin of Apprise: ``buttdials://token@host/+14155550123/+14155550124?channel=whatsapp``.

``buttdial://`` is the same without TLS, for a server on this machine. A message that may have been
sent is an error that Apprise's own retries do not repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from apprise.common import NotifyType
from apprise.exception import AppriseImproperlyConfigured
from apprise.locale import gettext_lazy as _
from apprise.plugins.base import NotifyBase

from buttdial_sync import shared_client

CHANNELS = ("sms", "whatsapp", "email", "line")


class NotifyButtDial(NotifyBase):
    """Sends notifications through a Butt-Dial server."""

    service_name = "Butt-Dial"
    service_url = "https://github.com/elradts/butt-dial-sdk"
    protocol = "buttdial"
    secure_protocol = "buttdials"
    body_maxlen = 1600
    title_maxlen = 0  # the title becomes a part of the text
    request_rate_per_sec = 0  # the server says by itself when it is too much
    templates = (
        "{schema}://{token}@{host}/{targets}",
        "{schema}://{token}@{host}:{port}/{targets}",
    )
    template_tokens: ClassVar[dict[str, Any]] = dict(
        NotifyBase.template_tokens,
        token={
            "name": _("Agent Token"),
            "type": "string",
            "private": True,
            "required": True,
            "map_to": "user",
        },
        host={"name": _("Hostname"), "type": "string", "required": True},
        port={"name": _("Port"), "type": "int", "min": 1, "max": 65535},
        targets={"name": _("Targets"), "type": "list:string", "required": True},
    )
    template_args: ClassVar[dict[str, Any]] = dict(
        NotifyBase.template_args,
        to={"alias_of": "targets"},
        channel={
            "name": _("Channel"),
            "type": "choice:string",
            "values": CHANNELS,
            "default": CHANNELS[0],
        },
    )

    def __init__(
        self, targets: str | Sequence[str] | None = None, channel: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.channel = (channel or CHANNELS[0]).lower()
        if self.channel not in CHANNELS:
            raise AppriseImproperlyConfigured(f"the channel must be one of {', '.join(CHANNELS)}")
        if not self.user or not self.host:
            raise AppriseImproperlyConfigured("an agent token and a host are needed")
        if not self.verify_certificate:
            # The library has no such switch, and to send all the same would be a surprise.
            raise AppriseImproperlyConfigured("certificates are always verified: verify=no")
        self.targets = [targets] if isinstance(targets, str) else list(targets or ())

    @property
    def base_url(self) -> str:
        """The server's address."""
        port = f":{self.port}" if self.port else ""
        return f"{'https' if self.secure else 'http'}://{self.host}{port}"

    @property
    def url_identifier(self) -> tuple[Any, ...]:
        """What makes two of these the same service, whoever gets the messages."""
        return (self._scheme(), self.user, self.host, self.port, self.channel)

    def _scheme(self) -> str:
        """Return how its address begins."""
        return self.secure_protocol if self.secure else self.protocol

    def url(self, privacy: bool = False, *args: Any, **kwargs: Any) -> str:
        """Return its address; with ``privacy`` without the token."""
        params = {"channel": self.channel, **self.url_parameters(*args, privacy=privacy, **kwargs)}
        token = self.pprint(self.user, privacy, safe="")
        port = f":{self.port}" if self.port else ""
        targets = "/".join(self.quote(target, safe="") for target in self.targets)
        return f"{self._scheme()}://{token}@{self.host}{port}/{targets}/?{self.urlencode(params)}"

    def __len__(self) -> int:
        """Return how many people it tells."""
        return max(1, len(self.targets))

    def send(
        self,
        body: str,
        title: str = "",
        notify_type: NotifyType = NotifyType.INFO,
        **kwargs: Any,
    ) -> bool:
        """Tell everybody; return whether all of them were told."""
        if not self.targets:
            self.logger.warning("There were no Butt-Dial targets to notify")
            return False
        client = shared_client(
            self.base_url,
            agent_token=self.user,
            max_attempts=1 if self.retry else 3,  # one of the two repeats, not both
            timeout=float(self.socket_connect_timeout + self.socket_read_timeout),
        )
        told_all = True
        for target in self.targets:
            # Apprise asks this in a retry of its own: what was sent is not sent again, nor what may
            # have been sent or can never be.
            if self.is_delivered(target):
                continue
            if self.is_delivered(("given up", target)):
                told_all = False
                continue
            self.throttle()
            result = client.send_message(target, body, self.channel)
            if result.ok:
                self.mark_delivered(target)
            else:
                told_all = False
                if result.unknown or result.permanent:
                    self.mark_delivered(("given up", target))
                said = "may have been" if result.unknown else "was not"
                self.logger.warning(f"A message {said} sent to {target}: {result.error}")
        return told_all

    @staticmethod
    def parse_url(url: str) -> dict[str, Any] | None:
        """Return the constructor's arguments that an address stands for."""
        found: dict[str, Any] | None = NotifyBase.parse_url(url)
        if not found:
            return found
        query = found["qsd"]
        found["user"] = NotifyBase.unquote(found["user"])
        found["targets"] = NotifyBase.split_path(found["fullpath"])
        found["targets"] += NotifyBase.parse_list(NotifyBase.unquote(query.get("to") or ""))
        if query.get("channel"):
            found["channel"] = NotifyBase.unquote(query["channel"])
        return found
