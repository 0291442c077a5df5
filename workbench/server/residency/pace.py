"""How often is looked and how long is waited, in seconds; tests pass shorter ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Intervals and limits of residency.

    Attributes:
        moving_s: Between two `ps` while something loads or leaves.
        idle_s: Between two `ps` while somebody watches.
        watched_s: How long after a request is still looked.
        fresh_s: How old a `ps` may be for a request to trust it.
        request_wait_s: How long a request waits for a `ps`; it may block while a runner stops.
        gone_s: How long a model may take to leave `ps`.
        released_s: How long its memory may take to come back.
        retry_s: After this in `ps` a model is asked to leave again.
        plateau: Equal samples after which memory has stopped coming back.
        stuck_s: A load without anything moving is suspicious after this, or three times its usual
            seconds.
        heartbeat_s: Between two renewals of the keep_alive of pinned models.
    """

    moving_s: float = 0.3
    idle_s: float = 3.0
    watched_s: float = 10.0
    fresh_s: float = 2.0
    request_wait_s: float = 0.5
    gone_s: float = 10.0
    released_s: float = 10.0
    retry_s: float = 2.0
    plateau: int = 3
    stuck_s: float = 60.0
    heartbeat_s: float = 300.0
