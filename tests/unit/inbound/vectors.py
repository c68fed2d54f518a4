"""
Random signature vectors, and what ``butt-dial-sdk`` 0.9.0 says about each.

``python -m tests.unit.inbound.vectors`` prints the verdicts anew, in an environment with the peer.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable, Iterator

import attrs

NOW = 1_767_000_000.0
COUNT = 1_000

# T and F; E where the peer raises.
VERDICTS = (
    "TFFFFTEFFEFTFTFTFFFFETFFFFFFTFTTFFTFFTTEFTFFFTEFTFEFTETETFFTTTFFEETTFFETEFTFTFTF"
    "FTEFFFFTFTFFTTFFFFFTTTTTTFTTETFTFFTFTFTTTTFFFFTTTEFTEFTFFTFFTFETFFFTTTTTTTTTTTTT"
    "ETTTTTTFTFETFTTFTFTFFFFTTTTFTTFFTTFEFTFFTTFTTFFFFFFFTFTFTTFFTTTTEFFTFTEFFFTFFFTT"
    "FTTFFFFFTTFTTFFFFFTFTTETTTTTFTTTTTTTTFTFFEFFTFTTTTFFFFFTETFTTTFTFTTFEFFEFFTTTEET"
    "FTFFFFTTFTFTFTTFFFFFTFFFFFTTFTFFTFFTFETFFTTFTTTFFFTFFFETFFFFTFFTFFTTTTTFTFTFFEEF"
    "TFTTTTTTTTFTTTTFTTFFFTTTTFFFTFTTEFFFFFEFTTFTTFFTFFFTFTFTTFTTFTTFTTTTTETTTEFFFFTF"
    "TTFTFETFFFFFTFTFTFFTTFTTTFFTFEFFTEEETTETTFTFFFTFTFFFFETFFTFFTFFEFFFEFFTFFTTFTFFF"
    "TFTFFFFFTTTTTFFFFTTFTTFTEFFFFTFTFFFFFFTETTFFTFFFTFTFFFTEFFTTFTTTFTFFFFTETFFTTTFF"
    "FFFFTFFTFFTFFTTFTFFTTFFTETFTTFFFTFFTFTFFFTTTFTTFFFFTFFTETFFTFFTFFFTFEFTTFTFFFFFF"
    "FTTTFTTTFFTTFTTTFTETTTTFFTFFTFFFTTTFTTTTFTFFTTFFETFTFFFTTTTTTETFTTFEFTTTFTFFFFTF"
    "FFTTTFTTTTFFETFTETFTTFTFFFEEFFFTFFTFETTFFTFFTFFTFTETFTTTTTTTTTFTFTFFTFTTETFFTFFT"
    "FTTTFTTFFFFTFFETTFFTTTFFTTTTTTFFTTTFFFTFFFEFFFFFFTFFTTEFFTFFFTTFFTFFFFEFEFTTTTFF"
    "FFTTTFTFFTFFFFTTTFTFFTFFTFTEETFFTFFFTTFT"
)


@attrs.frozen(kw_only=True)
class Vector:
    """Arguments of a verification, and how they came about."""

    kind: str
    body: bytes
    timestamp: str | None
    signature: str | None
    secret: str


def sign(secret: str, timestamp: str, body: bytes) -> str:
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"hmac-sha256={mac.hexdigest()}"


def _text(dice: random.Random) -> str:
    letters = 'abcXYZ019 {}[]":,\\/äöü€😀\x00\n'
    return "".join(
        letters[int(dice.random() * len(letters))] for _ in range(int(dice.random() * 40))
    )


def _good(dice: random.Random, kind: str = "good", age: float = 0.0) -> Vector:
    body, secret = _text(dice).encode(), _text(dice) + "s"
    timestamp = str(int(NOW - age))
    return Vector(
        kind=kind,
        body=body,
        timestamp=timestamp,
        signature=sign(secret, timestamp, body),
        secret=secret,
    )


def _aged(dice: random.Random) -> Vector:
    return _good(dice, "aged", int(dice.random() * 610) - 305)


def _other_secret(dice: random.Random) -> Vector:
    return attrs.evolve(_good(dice, "other secret"), secret="another")


def _other_body(dice: random.Random) -> Vector:
    good = _good(dice, "other body")
    return attrs.evolve(good, body=good.body + b" ")


def _other_digit(dice: random.Random) -> Vector:
    good = _good(dice, "other digit")
    text = good.signature or ""
    at = len("hmac-sha256=") + int(dice.random() * 64)
    digit = "0" if text[at] != "0" else "1"
    return attrs.evolve(good, signature=text[:at] + digit + text[at + 1 :])


def _malformed(dice: random.Random) -> Vector:
    good = _good(dice, "malformed")
    text = good.signature or ""
    forms = [None, "", "hmac-sha256=", text[12:], text.upper(), text[:-1], text + "0", "sha256=x"]
    forms.append(text.replace("hmac", "HMAC"))
    return attrs.evolve(good, signature=forms[int(dice.random() * len(forms))])


def _no_timestamp(dice: random.Random) -> Vector:
    forms = [None, "", "x", "1e9", "17.0", "nan", "0x10", "1767000000.0"]
    return attrs.evolve(_good(dice, "no timestamp"), timestamp=forms[int(dice.random() * 8)])


def _no_secret(dice: random.Random) -> Vector:
    return attrs.evolve(_good(dice, "no secret"), secret="")


def _odd_timestamp(dice: random.Random) -> Vector:
    good = _good(dice, "odd timestamp")
    moment = good.timestamp or ""
    forms = [
        f" {moment}",
        f"+{moment}",
        f"0{moment}",
        f"{moment}\n",
        "1_767_000_000",
        "\uff11\uff17\uff16\uff17" + "\uff10" * 6,
    ]
    return attrs.evolve(good, timestamp=forms[int(dice.random() * len(forms))])


def _padded_signature(dice: random.Random) -> Vector:
    good = _good(dice, "padded signature")
    return attrs.evolve(good, signature=f"{good.signature} ")


def _no_ascii(dice: random.Random) -> Vector:
    return attrs.evolve(_good(dice, "no ascii"), signature="hmac-sha256=" + "ä" * 64)


def _no_utf8(dice: random.Random) -> Vector:
    good = _good(dice, "no utf-8")
    body = good.body + b"\xff"
    return attrs.evolve(good, body=body, signature=sign(good.secret, good.timestamp or "", body))


_MAKERS: tuple[Callable[[random.Random], Vector], ...] = (
    _good,
    _good,
    _aged,
    _aged,
    _other_secret,
    _other_body,
    _other_digit,
    _malformed,
    _no_timestamp,
    _no_secret,
    _odd_timestamp,
    _padded_signature,
    _no_ascii,
    _no_utf8,
)


def vectors() -> Iterator[Vector]:
    """Yield the vectors; always the same."""
    dice = random.Random(20260102)
    for _ in range(COUNT):
        yield _MAKERS[int(dice.random() * len(_MAKERS))](dice)


def _verdict(verify: Callable[..., bool], each: Vector) -> str:
    try:
        is_good = verify(
            each.body,
            timestamp_header=each.timestamp,
            signature_header=each.signature,
            secret=each.secret,
            now=NOW,
        )
    except TypeError:
        return "E"
    return "T" if is_good else "F"


if __name__ == "__main__":
    from buttdial.webhooks import verify_webhook_signature  # type: ignore[import-not-found]

    print("".join(_verdict(verify_webhook_signature, each) for each in vectors()))  # noqa: T201
