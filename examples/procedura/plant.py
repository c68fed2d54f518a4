"""
Plant sprites in a world, and tell how far it is.

Install buttdial-sync[procedura], set PROCEDURA_URL, log in once with
"buttdial-sync procedura login you@example.com", then: python plant.py --dry-run --n 4
"""

import sys

from buttdial_sync.procedura import Failed, Finished, ProceduraError, RemoteAgent, Running


def main(args: list[str]) -> int:
    """Stream the module's events, and return the exit code."""
    try:
        with RemoteAgent.from_env() as agent:
            for event in agent.stream("place_ooi_sprites", args):
                if isinstance(event, Running):
                    print(event.data.get("message") or event.data)
                elif isinstance(event, Finished):
                    print(f"done: {event.result}")
                elif isinstance(event, Failed):
                    print(f"the module failed: {event.error}", file=sys.stderr)
                    return 1
    except ProceduraError as error:
        print(f"{error.outcome}: {error}", file=sys.stderr)
        print(f"-> {error.remediation}", file=sys.stderr)
        return 3 if error.outcome == "unknown" else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
