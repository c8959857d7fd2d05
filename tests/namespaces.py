"""Machines on a network of their own: network namespaces joined by a bridge, gone with their test whatever happens."""

import os
import random
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.programs import require


@dataclass(frozen=True)
class Machine:
    """A namespace; what runs in it has an address and a machine id of its own, and no way to the loopback outside."""

    name: str
    address: str

    def command(self, *arguments: str | Path) -> list[str]:
        return [require("ip"), "netns", "exec", self.name, *map(str, arguments)]


@dataclass(frozen=True)
class Network:
    """`address` is the bridge's: where the server listens."""

    address: str
    machines: list[Machine]


@contextmanager
def network(n_machines: int) -> Iterator[Network]:
    """Yield a bridge with machines on it. Skips where the kernel does not let this user make them; fails where CI=true."""
    tag = secrets.token_hex(3)  # an interface's name has at most 15 letters
    subnet = f"10.{random.randrange(64, 255)}.{random.randrange(255)}"
    bridge = f"swb{tag}"
    with ExitStack() as undo:
        _first(bridge)
        undo.callback(_ip, "link", "delete", bridge)
        _ip("address", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield Network(
            f"{subnet}.1", [_machine(undo, tag, number, bridge, subnet) for number in range(1, n_machines + 1)]
        )


def _machine(undo: ExitStack, tag: str, number: int, bridge: str, subnet: str) -> Machine:
    machine = Machine(f"stepwatt-{tag}-{number}", f"{subnet}.{number + 1}")
    outside = f"swv{tag}{number}"
    _own_machine_id(undo, machine.name)
    _ip("netns", "add", machine.name)
    undo.callback(_ip, "netns", "delete", machine.name)
    _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
    undo.callback(_ip, "link", "delete", outside)  # before its namespace, which the kernel clears away in its own time
    _ip("link", "set", outside, "master", bridge, "up")
    _ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", "eth0")
    for interface in ("eth0", "lo"):
        _ip("-n", machine.name, "link", "set", interface, "up")
    return machine


def _own_machine_id(undo: ExitStack, name: str) -> None:
    """Give the machine an id: `ip netns exec` lays the files of /etc/netns/<name> over /etc (ip-netns(8))."""
    if not Path("/etc/machine-id").exists():
        return
    folder = Path("/etc/netns") / name
    if not folder.parent.exists():
        folder.parent.mkdir()
        undo.callback(_remove_if_empty, folder.parent)
    folder.mkdir()
    undo.callback(folder.rmdir)
    (folder / "machine-id").write_text(f"{uuid4().hex}\n")
    undo.callback((folder / "machine-id").unlink)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _first(bridge: str) -> None:
    """Make the bridge: the first thing that needs the right to."""
    try:
        _ip("link", "add", bridge, "type", "bridge")
    except subprocess.CalledProcessError as error:
        reason = f"no network namespaces (they need root or CAP_NET_ADMIN): {error.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def _ip(*arguments: str) -> None:
    subprocess.run([require("ip"), *arguments], check=True, capture_output=True, text=True)
