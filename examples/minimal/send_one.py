"""
Send one message.

Set BUTT_DIAL_BASE_URL and BUTT_DIAL_AGENT_TOKEN, then: python send_one.py +14155550123 "Hello"
"""

import sys

from buttdial_sync import Client


def main(to: str, text: str) -> int:
    """Send, say what became of it, and return the exit code."""
    with Client.from_env() as client:
        result = client.send_message(to, text, channel="sms")
    if result.ok:
        print(f"sent as {result.message_sid}")
        return 0
    print(f"{result.outcome}: {result.error}", file=sys.stderr)
    print(f"-> {result.remediation}", file=sys.stderr)
    return 3 if result.unknown else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
