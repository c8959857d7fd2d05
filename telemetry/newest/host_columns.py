"""What an upper app says of hosts in the table of hosts: who works there, and how the host stands to its baseline.

The app hands over a function by `provide` when Django starts it (AppConfig.ready); it is asked of the hosts of one page alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class HostColumns:
    """`job` and who it belongs to; `deviation` is faster − 1 beside the baseline, None where `why` says why there is none."""

    job: str = ""
    job_url: str = ""
    owner: str = ""
    deviation: float | None = None
    is_flagged: bool = False
    why: str = "no baseline yet"


class Provider(Protocol):
    def __call__(self, host_ids: Sequence[int], *, with_baselines: bool) -> Mapping[int, HostColumns]: ...


_PROVIDERS: list[Provider] = []


def provide(provider: Provider) -> None:
    if provider not in _PROVIDERS:
        _PROVIDERS.append(provider)


def of_hosts(host_ids: Sequence[int], *, with_baselines: bool) -> dict[int, HostColumns]:
    """Return what is said of the hosts of these ids, by id; what nobody speaks of is missing.

    Without baselines who works there is told alone: of a whole fleet the results are many.
    """
    found: dict[int, HostColumns] = {}
    for provider in _PROVIDERS:
        found.update(provider(host_ids, with_baselines=with_baselines))
    return found
