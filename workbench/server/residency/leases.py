"""Leases: promises that models stay in memory for somebody who says so again and again.

A pure table; the clock is an argument.
A holder that dies sends no heartbeat, and its lease ends by itself: the shell asks `expired(now)`
and reports each lease it returns once.

```
lease = table.acquire(["a:latest"], ttl_s=30, holder="run 7", now=now)
table.heartbeat(lease.id, now)          # the lease, or None when it has ended
table.release(lease.id)                 # the lease, or None
table.leased("a:latest", now)           # whether any lease that lasts names it
table.expired(now)                      # leases that ended by themselves, taken out of the table
table.next_wakeup()                     # when the next one ends, or None
```
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace


def _new_id() -> str:
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise that models stay in memory.

    Attributes:
        models: What they are known by to the caller; each once, in order.
        ttl_s: Seconds it lasts after the last heartbeat.
        expires_at: When it ends, in seconds of the clock that the caller passes in.
        holder: Who holds it, in words.
    """

    id: str
    models: tuple[str, ...]
    ttl_s: float
    expires_at: float
    holder: str


class LeaseTable:
    """The leases that last.

    Args:
        new_id: Makes an id that cannot be guessed.
    """

    def __init__(self, new_id: Callable[[], str] = _new_id) -> None:
        self._new_id = new_id
        self._leases: dict[str, Lease] = {}

    def acquire(self, models: Iterable[str], ttl_s: float, holder: str, now: float) -> Lease:
        """Begin a lease.

        Raises:
            ValueError: When it names no model, or its time to live is not above 0.
        """
        named = tuple(dict.fromkeys(models))
        if not named:
            raise ValueError("a lease names at least one model")
        _check_ttl(ttl_s)
        lease = Lease(self._new_id(), named, ttl_s, now + ttl_s, holder)
        self._leases[lease.id] = lease
        return lease

    def heartbeat(self, lease_id: str, now: float, ttl_s: float | None = None) -> Lease | None:
        """Let a lease last from now on, for another time to live if one is given.

        Returns:
            The lease as it is now; `None` when it is unknown or has ended: acquire a new one.
        """
        if ttl_s is not None:
            _check_ttl(ttl_s)
        lease = self._leases.get(lease_id)
        # One that has ended stays in the table until `expired` has reported it.
        if lease is None or lease.expires_at <= now:
            return None
        lasting = lease.ttl_s if ttl_s is None else ttl_s
        lease = replace(lease, ttl_s=lasting, expires_at=now + lasting)
        self._leases[lease_id] = lease
        return lease

    def release(self, lease_id: str) -> Lease | None:
        """End a lease; `None` when there is none."""
        return self._leases.pop(lease_id, None)

    def expired(self, now: float) -> list[Lease]:
        """Take out the leases whose time is over, first ended first; each is returned once."""
        ended = sorted(
            (lease for lease in self._leases.values() if lease.expires_at <= now),
            key=lambda lease: lease.expires_at,
        )
        for lease in ended:
            del self._leases[lease.id]
        return ended

    def leased(self, model: str, now: float) -> bool:
        """Whether a lease that lasts names the model."""
        return any(model in lease.models for lease in self.lasting(now))

    def lasting(self, now: float) -> list[Lease]:
        """Return the leases that last, oldest first."""
        return [lease for lease in self._leases.values() if lease.expires_at > now]

    def next_wakeup(self) -> float | None:
        """Return when the next lease ends by itself; `None` when there is none."""
        return min((lease.expires_at for lease in self._leases.values()), default=None)


def _check_ttl(ttl_s: float) -> None:
    # Also refuses NaN; without an end a dead holder would pin for ever.
    if not 0 < ttl_s < float("inf"):
        raise ValueError("the time to live is a number of seconds above 0")
