"""
The published SDK's example "minimal", moved: send one message, and say how it went.

    python minimal.py +14155550123
"""

import sys

from buttdial_sync import Client


def main(recipient: str) -> int:
    """Send it, and return the exit code."""
    with Client.from_env() as client:
        result = client.send_message(to=recipient, body="Hello from buttdial_sync 👋")
    if result.ok:
        print(f"sent: {result.message_sid}")
        return 0
    if result.unknown:
        print(f"perhaps sent, under the key {result.idempotency_key}: {result.error}")
        return 3
    print(f"failed at stage {result.stage_failed}: {result.error}")
    print(f"  fix: {result.remediation}")
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
