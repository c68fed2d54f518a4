"""The fake Butt-Dial server, as a test sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buttdial_sync.testing.fake import FakeServer
from buttdial_sync.testing.loopback import LoopbackServer

if TYPE_CHECKING:
    from buttdial_sync.testing.mocked import MockedServer


class FakeButtDialServer(FakeServer):
    """
    A Butt-Dial server for tests: it answers as the real ones do, and fails on demand.

    The object itself has no socket. ``with server.listen() as loopback:`` puts it on a port of
    127.0.0.1; ``with server.mocked() as mocked:`` puts it behind the ``responses`` library.

    Args:
        dialect: Which server to be: ``"hosted"`` or ``"open-source"``.
        tokens: The good tokens; as a mapping with the id of the agent to whom each belongs. None
            lets any token in.
        clock: Tells the time, for the lockout.

    Raises:
        ValueError: The dialect is unknown.
    """

    _mocked: MockedServer | None = None

    def listen(self, *, keep_alive: float = 5.0) -> LoopbackServer:
        """
        Listen on a port of 127.0.0.1.

        Args:
            keep_alive: How long an idle connection is kept, in seconds.

        Returns:
            The running face, a context manager with ``base_url``.
        """
        return LoopbackServer(self, keep_alive=keep_alive)

    def mocked(self, base_url: str = "https://butt-dial.test") -> MockedServer:
        """
        Answer what ``requests`` sends to ``base_url``, by way of the ``responses`` library.

        Args:
            base_url: The origin. ``*`` in it stands for anything, so ``"*"`` is every address, for
                code that has an address of its own. What the test itself has registered with
                ``responses`` comes first.

        Returns:
            A context manager, not yet installed.
        """
        from buttdial_sync.testing.mocked import MockedServer

        return MockedServer(self, base_url)

    def install(self, base_url: str = "https://butt-dial.test") -> str:
        """
        Do what ``with server.mocked(base_url):`` does, until `uninstall`.

        Calling it again repairs what ``@responses.activate`` or ``responses.reset()`` has undone.

        Returns:
            The base URL. Calling it again returns that of the first call.

        Raises:
            RuntimeError: Another fake server is installed at this URL.
        """
        if self._mocked is None:
            self._mocked = self.mocked(base_url)
        self._mocked.install()
        return self._mocked.base_url

    def uninstall(self) -> None:
        """End what `install` began. Calling it again does nothing."""
        if self._mocked is not None:
            self._mocked.uninstall()
            self._mocked = None
