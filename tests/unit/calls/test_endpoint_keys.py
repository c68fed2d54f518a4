"""What an endpoint's declaration promises, and what a call of it really has."""

from __future__ import annotations

import pytest
import responses

from buttdial_sync.calls.endpoint_call import EndpointCall
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.connection import Connection
from buttdial_sync.errors import OutcomeUnknownError

URL = "https://butt-dial.test"


@pytest.mark.parametrize(("key", "attempts"), [(None, 1), ("k", 2)])
def test_only_a_call_with_a_key_is_repeated(key: str | None, attempts: int) -> None:
    """That the endpoint would honour a key does not help a call that has none."""
    connection = Connection(URL, timeout=5, connect_timeout=5, max_attempts=2, sleep=lambda _: None)
    endpoint = Endpoint("POST", "/things", dict, takes_key=True)
    call = EndpointCall(connection, endpoint, {}, credential=None, idempotency_key=key)
    with responses.RequestsMock() as server:
        server.post(f"{URL}/things", status=500)
        with pytest.raises(OutcomeUnknownError) as caught:
            call.answer()
    connection.close()
    assert call.attempts == attempts
    assert ("idempotency_key='k'" in str(caught.value.remediation)) is (key is not None)
