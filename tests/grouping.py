"""How `make test` divides the tests among its three processes: what runs in one of them, and what is begun first.

Three on two cores, since whole programs wait more than they compute. They come in two groups, so that at most two of them run at
a time: what they wait for has a deadline. Networks of several machines are all in one group, which has the larger loads one after
another, and no two that make and remove folders in /etc/netns. All else that they use is their own: folders, ports (ports.py),
databases, brokers, mounts.
"""

from collections.abc import Collection, Mapping
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_WHOLE_PROGRAMS = {
    "installations and networks": ("tests/process/", "tests/e2e/test_distributed.py"),
    "browsers, faults and frameworks": ("tests/e2e/", "tests/soak/", "tests/frameworks/"),
}
# What takes longest, longest first, by measurement. With these left to the end the other processes wait for the last one.
BEGUN_FIRST = (
    *_WHOLE_PROGRAMS,
    "tests/training/test_reference_jobs.py",
    "tests/telemetry/test_migrations.py",
    "tests/training/test_reference_models.py",
    "tests/training/test_ranks.py",
    "tests/telemetry/test_health_alerts.py",
    "tests/telemetry/test_bench_store.py",
    "tests/telemetry/test_rollups.py",
    "tests/telemetry/test_idle_quarters.py",
    "tests/telemetry/test_verify_store.py",
    "tests/training/test_silent_corruption.py",
    "tests/training/test_bench_reference.py",
    "tests/training/test_bench_steps.py",
    "tests/training/test_simulate_command.py",
    "tests/telemetry/test_fleet_accounts.py",
    "tests/architecture/test_grouping.py",
    "tests/telemetry/test_wire.py",
    "tests/telemetry/test_space.py",
    "tests/architecture/test_runtime_imports.py",
    "tests/training/test_repeats.py",
    "tests/training/test_run_book.py",
    "tests/training/test_pages_recorded_run.py",
    "tests/training/test_mlperf_figures.py",
)


class Grouping(LoadScopeScheduling):
    """Not by marks: xdist 3.8 writes its groups where pytest 9.2 does not read them, and then each test goes anywhere."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(first_of(self.workqueue), last=False)
        super()._assign_work_unit(node)


def group_of(nodeid: str) -> str:
    """Return what runs in one process, in its order: a group of what starts whole programs, else a file's tests."""
    of_programs = (group for group, places in _WHOLE_PROGRAMS.items() if nodeid.startswith(places))
    return next(of_programs, nodeid.partition("::")[0])


def first_of(groups: Mapping[str, Collection[str]]) -> str:
    """Return what of these, {group: its tests}, a process that is free begins: of what is not known to be long the most tests."""

    def place(group: str) -> tuple[int, int]:
        return BEGUN_FIRST.index(group) if group in BEGUN_FIRST else len(BEGUN_FIRST), -len(groups[group])

    return min(groups, key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouping:
    return Grouping(config, log)
