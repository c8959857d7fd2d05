"""How `make test` divides the tests among its three processes: what runs in one of them, and what is begun first.

Three on two cores, since whole programs wait more than they compute. Whole programs have all that they use to themselves:
folders, ports (ports.py), databases, brokers, mounts. So their files may run beside each other, but for those named here.
"""

from collections.abc import Collection, Mapping
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    # They make and remove folders in /etc/netns; and a training on two machines leaves a second such pair too little.
    "networks": (
        "tests/process/test_namespaces.py",
        "tests/process/test_distributed.py",
        "tests/e2e/test_distributed.py",
    ),
    # They use one product, tests/stack.py's, which is started once in each process.
    "one product": (
        "tests/e2e/test_main_path.py",
        "tests/e2e/test_map_and_charts.py",
        "tests/e2e/test_presses.py",
        "tests/e2e/test_reference.py",
        "tests/e2e/test_runs.py",
        "tests/process/test_prometheus.py",
    ),
}
# What takes longest, longest first, by measurement. With these left to the end the other processes wait for the last one.
BEGUN_FIRST = (
    "tests/soak/test_faults.py",
    "networks",
    "tests/process/test_make_up.py",
    "one product",
    "tests/training/test_reference_jobs.py",
    "tests/process/test_broker_tls.py",
    "tests/process/test_demo.py",
    "tests/process/test_two_hosts.py",
    "tests/e2e/test_every_page.py",
    "tests/frameworks/test_lightning.py",
    "tests/process/test_wheels_installed.py",
    "tests/process/test_faults.py",
    "tests/telemetry/test_odd_fleets.py",
    "tests/process/test_containers.py",
    "tests/training/test_ranks.py",
    "tests/process/test_killed_upkeep.py",
    "tests/telemetry/test_bench_store.py",
    "tests/frameworks/test_transformers.py",
    "tests/frameworks/test_keras.py",
    "tests/process/test_postgresql.py",
    "tests/telemetry/test_migrations.py",
    "tests/training/test_bench_reference.py",
    "tests/training/test_bench_steps.py",
    "tests/process/test_start_refused.py",
    "tests/process/test_redelivery.py",
    "tests/process/test_agent_steps.py",
    "tests/process/test_agent_alone.py",
    "tests/telemetry/test_verify_store.py",
    "tests/telemetry/test_fleet_accounts.py",
    "tests/training/test_reference_models.py",
    "tests/telemetry/test_import_telemetry.py",
    "tests/architecture/test_grouping.py",
    "tests/telemetry/test_health_alerts.py",
    "tests/architecture/test_runtime_imports.py",
    "tests/telemetry/test_rollups.py",
    "tests/training/test_simulate_command.py",
    "tests/telemetry/test_idle_quarters.py",
    "tests/training/test_repeats.py",
    "tests/training/test_silent_corruption.py",
    "tests/training/test_run_book.py",
)


class Grouping(LoadScopeScheduling):
    """Not by marks: xdist 3.8 writes its groups where pytest 9.2 does not read them, and then each test goes anywhere."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(first_of(self.workqueue), last=False)
        super()._assign_work_unit(node)


def group_of(nodeid: str) -> str:
    """Return what runs in one process, in its order: a file's tests, or several files' together."""
    file = nodeid.partition("::")[0]
    return next((group for group, files in TOGETHER.items() if file in files), file)


def first_of(groups: Mapping[str, Collection[str]]) -> str:
    """Return what of these, {group: its tests}, a process that is free begins: of what is not known to be long the most tests."""

    def place(group: str) -> tuple[int, int]:
        return BEGUN_FIRST.index(group) if group in BEGUN_FIRST else len(BEGUN_FIRST), -len(groups[group])

    return min(groups, key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouping:
    return Grouping(config, log)
