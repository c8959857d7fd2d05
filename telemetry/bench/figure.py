"""One measured figure, as `manage.py bench` prints and writes it. A bench is a function that returns some."""

from dataclasses import dataclass


class BenchFailed(Exception):
    """A bench has no figures; the message says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`target` says in words what the value should be; `met` is None where it has none, or where its peer is missing.

    `peer` names what people use today and `peer_value` is its figure of the same run, None where it is not installed.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    target: str = ""
    met: bool | None = None

    @property
    def ratio(self) -> float | None:
        """Return how many times the peer's value this one is."""
        return self.value / self.peer_value if self.peer_value else None

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "peer": self.peer or None,
            "peer_value": self.peer_value,
            "ratio": self.ratio,
            "target": self.target or None,
            "met": self.met,
        }
