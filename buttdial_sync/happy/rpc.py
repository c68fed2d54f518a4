"""Calls of a machine's daemon or a session's process, by way of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttdial_sync.happy.crypto import Cipher
from buttdial_sync.happy.errors import (
    EncryptionError,
    HappyError,
    MachineOfflineError,
    RpcError,
    RpcNotSupported,
    RpcOutcomeUnknownError,
    SessionOfflineError,
    all_about,
)
from buttdial_sync.happy.realtime import Realtime
from buttdial_sync.happy.records import Records
from buttdial_sync.transport.deadline import Deadline

_NOBODY_THERE = "RPC method not available"
_METHOD_UNKNOWN = "Method not found"


class Rpc:
    """
    Calls machines and sessions. Safe to share between threads.

    Args:
        realtime: The live connection.
        records: Finds the keys.
    """

    def __init__(self, realtime: Realtime, records: Records) -> None:
        self._realtime = realtime
        self._records = records

    def machine(
        self, machine_id: str, name: str, params: Mapping[str, Any], deadline: Deadline
    ) -> Any:
        """
        Call a machine's daemon.

        Raises:
            MachineOfflineError: It is not connected; nothing was carried out.
            RpcError: It answered with an error.
            RpcOutcomeUnknownError: No answer came.
        """
        cipher = self._records.machine_cipher(machine_id, deadline)
        offline = MachineOfflineError(f"machine {machine_id} is not connected to the server")
        return self._call(machine_id, name, params, cipher, offline, deadline)

    def session(
        self, session_id: str, name: str, params: Mapping[str, Any], deadline: Deadline
    ) -> Any:
        """
        Call a session's process.

        Raises:
            SessionOfflineError: It is not connected; nothing was carried out.
            RpcError: It answered with an error.
            RpcOutcomeUnknownError: No answer came.
        """
        cipher = self._records.session_cipher(session_id, deadline)
        offline = SessionOfflineError(f"session {session_id} is not connected to the server")
        with all_about(session_id):
            return self._call(session_id, name, params, cipher, offline, deadline)

    def _call(
        self,
        target: str,
        name: str,
        params: Mapping[str, Any],
        cipher: Cipher,
        offline: HappyError,
        deadline: Deadline,
    ) -> Any:
        request = {"method": f"{target}:{name}", "params": cipher.seal(params)}
        answer = self._realtime.call("rpc-call", request, deadline)
        if not isinstance(answer, Mapping):
            raise RpcOutcomeUnknownError(f"{name}: the server's answer has an unexpected shape")
        if answer.get("ok") is not True:
            said = str(answer.get("error") or "no reason given")
            if said == _NOBODY_THERE:
                raise offline
            raise RpcOutcomeUnknownError(f"{name}: {said}")
        return _result(name, answer.get("result"), cipher)


def _result(name: str, sealed: Any, cipher: Cipher) -> Any:
    if not sealed:
        return None
    try:
        result = cipher.open(str(sealed))
    except EncryptionError:
        unreadable = RpcOutcomeUnknownError(f"{name}: the answer cannot be decrypted")
    else:
        said = result.get("error") if isinstance(result, Mapping) else None
        if not said or result.get("success") is not None:
            return result
        kind = RpcNotSupported if said == _METHOD_UNKNOWN else RpcError
        raise kind(f"{name}: {said}")
    raise unreadable
