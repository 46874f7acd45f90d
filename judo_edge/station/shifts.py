"""When shifts begin: times of day of the station's place, summer time included. Knows nothing of what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta, timezone, tzinfo


def last_shift(now: datetime, shifts: Sequence[str], zone: tzinfo | None = None) -> datetime | None:
    """Return the latest beginning of a shift up to `now`, in UTC; None without shifts.

    `shifts` are "HH:MM" in `zone`, by default the time zone of the machine; `now` carries a time zone.
    """
    today = now.astimezone(zone).date()
    days = (today, today - timedelta(days=1))
    starts = [_utc(datetime.combine(day, time.fromisoformat(shift)), zone) for day in days for shift in shifts]
    return max((start for start in starts if start <= now), default=None)


def _utc(local: datetime, zone: tzinfo | None) -> datetime:
    """Read a time on the wall; without a zone it is the machine's."""
    return (local if zone is None else local.replace(tzinfo=zone)).astimezone(timezone.utc)
