"""What is paid for of hosts' energy: what the node's meter shows, where there is one, else what the devices do.

Called by the energy accounts, of one host, and by the groups' statistics, of many: so they agree.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Amounts = TypeVar("Amounts", NDArray[np.int64], NDArray[np.float64])


def charged(
    joules: Amounts, covered: Amounts, is_node: NDArray[np.bool_], hosts: NDArray[np.int64]
) -> tuple[Amounts, Amounts]:
    """Return what is paid for by devices and by nodes' meters, `(n,)` each, over all hosts.

    `joules` and `covered` (times of which they are known) are `(d, n)`, in any unit; `is_node` and `hosts` `(d,)`, d ≥ 1, say
    what each row is of. A bucket goes by the meter where it covers at least half of the time that the devices do.
    """
    if (hosts == hosts[0]).all():
        return charged_of_one(joules, covered, is_node)
    order = np.argsort(hosts, kind="stable")
    joules, covered, is_node, hosts = joules[order], covered[order], is_node[order], hosts[order]
    begins = np.flatnonzero(np.diff(hosts, prepend=hosts[0] - 1))
    of_nodes, of_devices = is_node[:, None], ~is_node[:, None]
    by_meter = np.add.reduceat(covered * of_nodes, begins)
    by_devices = np.maximum.reduceat(covered * of_devices, begins)
    is_metered = (by_meter > 0) & (2 * by_meter >= by_devices)
    drawn = np.add.reduceat(joules * of_devices, begins), np.add.reduceat(joules * of_nodes, begins)
    return (drawn[0] * ~is_metered).sum(axis=0), (drawn[1] * is_metered).sum(axis=0)


def charged_of_one(joules: Amounts, covered: Amounts, is_node: NDArray[np.bool_]) -> tuple[Amounts, Amounts]:
    """Return the same of the rows of one host."""
    by_meter = covered[is_node].sum(axis=0)
    is_metered = (by_meter > 0) & (2 * by_meter >= covered[~is_node].max(axis=0, initial=0))
    return joules[~is_node].sum(axis=0) * ~is_metered, joules[is_node].sum(axis=0) * is_metered
