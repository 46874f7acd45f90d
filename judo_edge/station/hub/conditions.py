"""What is wrong and stays visible until it is over and somebody has acknowledged it."""

from __future__ import annotations

from collections.abc import Callable

from judo_edge.station.results import Condition, Severity, utc_now


class Conditions:
    """The conditions by name; each change is told."""

    def __init__(self, changed: Callable[[Condition], None]) -> None:
        """Begin with none."""
        self._changed = changed
        self._by_name: dict[str, Condition] = {}

    def tell(self, name: str, severity: Severity, text: str, code: int = 0) -> None:
        """Raise or change a condition; an empty text clears it. The same again changes nothing."""
        if not text:
            self.clear(name)
            return
        found = self._by_name.get(name)
        if found and found.is_active and (found.severity, found.code, found.text) == (severity, code, text):
            return
        since = found.since if found and found.is_active else utc_now()
        self._put(Condition(name=name, severity=severity, code=code, text=text, since=since))

    def clear(self, name: str) -> None:
        """Note that the cause is over; an unacknowledged condition stays visible."""
        found = self._by_name.get(name)
        if found is None or not found.is_active:
            return
        self._put(found.model_copy(update={"is_active": False}))

    def confirm_all(self) -> None:
        """Acknowledge all; those whose cause is over disappear."""
        for condition in list(self._by_name.values()):
            if not condition.is_acknowledged:
                self._put(condition.model_copy(update={"is_acknowledged": True}))

    def all(self) -> tuple[Condition, ...]:
        """Return what is visible, the worst first."""
        return tuple(sorted(self._by_name.values(), key=lambda one: (not one.is_active, -one.severity, one.since)))

    def _put(self, condition: Condition) -> None:
        self._by_name[condition.name] = condition
        if condition.is_acknowledged and not condition.is_active:
            del self._by_name[condition.name]
        self._changed(condition)
