"""A simulated process: its clock, and the points at which something can happen to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from tests.simulation.kernel import Group, Task
from tests.simulation.plan import LEASE
from tests.simulation.world import World


class Process:
    """
    One process of the host. When it is killed, another one with its name begins.

    Args:
        world: Where it runs.
        name: Its name.
        on_crash: Called when it is killed.

    Attributes:
        ahead: How many seconds its clock is ahead of the true time.
    """

    def __init__(self, world: World, name: str, on_crash: Callable[[Process], object]) -> None:
        self.world = world
        self.name = name
        self.group = Group(name)
        self.ahead = 0.0
        self._on_crash = on_crash

    @property
    def is_dead(self) -> bool:
        """Whether it was killed."""
        return self.group.is_dead

    def clock(self) -> datetime:
        """Return what its clock shows."""
        return self.world.clock() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        """Return the monotonic time."""
        return self.world.kernel.now

    def sleep(self, seconds: float) -> None:
        """Let the running task wait."""
        self.world.kernel.sleep(seconds)

    def spawn(self, work: Callable[[], object], name: str) -> Task:
        """Begin a task of this process."""
        return self.world.kernel.spawn(work, f"{self.name} {name}", self.group)

    def tell(self, what: str) -> None:
        """Write a line of the trace."""
        task = self.world.kernel.running
        number = "" if task is None else f"/{task.ident}"
        self.world.tell(f"{self.name}{number}", what)

    def point(self, what: str) -> None:
        """Pass a point at which others may run, or something happens to this process."""
        kernel, world = self.world.kernel, self.world
        if kernel.running is not None:
            kernel.check(kernel.running)
        self.tell(what)
        strike = world.strike("process", ("crash", "pause", "clock jump"))
        if strike == "crash":
            self.crash(what)
        if strike == "pause":
            world.notes.paused += 1
            seconds = world.dice.uniform(1.0, 3 * LEASE)
            self.tell(f"PAUSES for {seconds:.0f} s")
            self.group.paused_until = kernel.now + seconds
        if strike == "clock jump":
            world.notes.jumped += 1
            self.ahead += world.dice.uniform(-600.0, 900.0)
            self.tell(f"CLOCK is {self.ahead:.0f} s ahead")
        # Mostly at once; sometimes the machine is busy.
        kernel.sleep(world.dice.uniform(0.0, 3.0) if world.dice.random() < 0.02 else 0.0)

    def crash(self, where: str) -> None:
        """Kill this process: its tasks end where they are, its memory is gone, its leases stay."""
        if not self.is_dead:
            self.tell(f"CRASHES: {where}")
            self.world.notes.crashed += 1
            self._on_crash(self)
        self.world.kernel.kill(self.group)
