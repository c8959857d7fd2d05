"""A product with something to show: simulated hosts with a past, recorded telemetry and steps. For tests and pictures."""

import json
import lzma
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import httpx

from tests.process.traces import wait_until
from tests.stack import ROOT, Stack

DATA = Path(__file__).parent / "data" / "mlperf_gpt3_64xh100"
_RECORDED_ROWS = 20_000
SMALL, LARGE = (("atlas", "h100", 1),), (("atlas", "h100", 3), ("borealis", "a100", 2), ("cirrus", "l40s", 1))


def seed(
    stack: Stack, fleets: Sequence[tuple[str, str, int]] = SMALL, *, seconds: int = 240, recorded_nodes: int = 3
) -> None:
    """Fill a running product: hosts of 8 GPUs, (cluster, model, number), that train, serve and idle; a recorded run."""
    past = ("--seconds", str(seconds), "--speed", "200")
    with ThreadPoolExecutor() as at_once:  # so that their pasts are the same
        list(at_once.map(lambda asked: _ran(stack, *simulation(*asked), *past), enumerate(fleets)))
    power = stack.directory / "node_power.csv"
    with lzma.open(DATA / "node_power_ac.csv.xz", "rt") as packed:
        head, *rows = islice(packed, _RECORDED_ROWS)
    power.write_text(head + "".join(row for row in rows if int(row.split(",")[1]) <= recorded_nodes))
    _ran(stack, "import_telemetry", str(power), "--cluster", "recorded")
    _ran(stack, "import_steps", str(DATA / "step_times.csv"), "--run", "gpt3-175b", "--cluster", "recorded",
         "--column", "tokens_done=tokens:cumulative")  # fmt: skip


def simulation(number: int, fleet: tuple[str, str, int]) -> tuple[str, ...]:
    """Return the command that simulates a fleet, again the same each time."""
    cluster, model, hosts = fleet
    return ("simulate", "--hosts", str(hosts), "--gpus", "8", "--model", model, "--cluster", cluster, "--prefix", cluster,
            "--seed", str(number + 1))  # fmt: skip


def pages(client: httpx.Client) -> dict[str, str]:
    """Return every page of a seeded product by name, once what was seeded stands in it: the client is signed in."""
    found = {
        "fleet": "/", "fleet-table": "/fleet/devices/", "hosts": "/hosts/", "runs": "/runs/", "reference": "/reference/",
        "launch": "/reference/?view=launch", "launch-by-selection": "/reference/?view=launch&cluster=atlas",
        "ladders": "/reference/ladders/", "schedules": "/reference/schedules/",
        "new-schedule": "/reference/schedules/new/", "power": "/power/?range=1h",
        "power-by-model": "/power/?range=1h&by=model", "efficiency": "/efficiency/?range=1h",
        "efficiency-runs": "/efficiency/?range=1h&by=run", "events": "/events/", "new-silence": "/events/?silence=new",
        "search": "/search/?q=atlas", "settings": "/settings/", "rules": "/settings/rules/?rule=power_budget",
        "notifications": "/settings/notifications/", "energy": "/settings/energy/", "access": "/settings/access/",
        "add-host": "/hosts/add/",
    }  # fmt: skip
    found["host"] = _first(client, "/hosts/?q=atlas", r"/hosts/atlas[\w-]*/")
    found["device"] = _first(client, found["host"], r"/devices/GPU[\w-]+/")
    found["recorded-host"] = _first(client, "/hosts/?q=recorded", r'name" href="(/hosts/[\w-]+/)')
    found["run"] = _first(client, "/runs/?q=gpt3", r"/runs/\d+/")
    nightly = {"name": "nightly", "workload": "gpt-train", "model": "H100", "cron": "0 3 * * *"}
    kept = client.post("/api/v1/reference/schedules", json=nightly).json()
    found["schedule"] = f"/reference/schedules/{kept['id']}/"
    found["simulated-run"] = _first(client, "/runs/?q=atlas", r"/runs/\d+/")
    return found


def pages_of_jobs(stack: Stack) -> dict[str, str]:
    """Put results of reference jobs in, and return the pages that show them by name."""
    command = [sys.executable, "-m", "tests.seeded_jobs"]
    done = subprocess.run(
        command, cwd=ROOT, env=stack.environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def own_host(stack: Stack) -> str:
    """Return the name of this machine's host, once its agent has told of it."""
    client = stack.signed_in()
    try:
        found: list[str] = []

        def came() -> bool:
            items = client.get("/api/v1/hosts").json()["items"]
            found.extend(item["name"] for item in items if item["origin"] == "real")
            return bool(found)

        wait_until(came, 240, "this machine among the hosts")
    finally:
        client.close()
    return found[0]


def _first(client: httpx.Client, path: str, pattern: str) -> str:
    """Return the first link of a page that fits, once there is one."""
    found: list[re.Match[str]] = []

    def came() -> bool:
        found.extend(re.finditer(pattern, client.get(path).text))
        return bool(found)

    wait_until(came, 240, f"{pattern} on {path}")
    return found[0][found[0].lastindex or 0]


def _ran(stack: Stack, *arguments: str) -> None:
    done = stack.manage(*arguments)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
