"""One click on 200 made-up hosts, on the whole product: how soon it is answered, what that costs, how soon all are shown live."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from fleet.settings import BASE_DIR
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.own_server import Calls, environment, wait_until
from telemetry.bench.peer import Peer
from telemetry.bench.server_up import Up, server_up

N_HOSTS, TIMES = 200, 5
MOST_SECONDS = 2.0
MOST_LIVE_SECONDS = 10.0  # as from any click to the first step
_PATIENCE_SECONDS = 180.0
_FORM = {"workload": "gpt-train", "size": "ci", "steps": "60", "warmup_steps": "5"}
_LAUNCH = "/reference/?view=launch"


@dataclass(frozen=True, slots=True)
class Click:
    """Of one launch: seconds until it was answered and until all jobs were shown running; CPU seconds of the answer."""

    answered: float
    web_cpu: float
    page: float
    live: float


class Person:
    """Somebody who is signed in, as the web server knows her: `session` is her cookie."""

    def __init__(self, web: Peer, session: str) -> None:
        self._web, self._cookies = web, {"sessionid": session}
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(_LAUNCH))
        if token is None:
            raise BenchFailed("the launch form has no token")
        self._token = token[1]

    def get(self, path: str, **headers: str) -> str:
        return self._asked("GET", path, None, headers)[1]

    def post(self, path: str, form: dict[str, str | list[str]]) -> str:
        """Return where the answer leads."""
        body = urlencode({"csrfmiddlewaretoken": self._token, **form}, doseq=True)
        answer, text = self._asked("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})
        if answer.status != 302:
            raise BenchFailed(f"{path} answered {answer.status}: {re.sub('<[^>]+>', ' ', text)[-500:]}")
        return str(answer.getheader("Location"))

    def _asked(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[HTTPResponse, str]:
        connection = self._web.connect()
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        own = {"Cookie": cookies, "Origin": f"http://127.0.0.1:{self._web.port}"}
        connection.request(method, path, body, {**own, **headers})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        for each in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = each.partition(";")[0].partition("=")
            self._cookies[name] = value
        return answer, text


def run(directory: Path) -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    with server_up(directory) as up, _hosts(directory) as (asked, names):
        wait_until(lambda: asked("n_launchable", names) == len(names), _PATIENCE_SECONDS, "the hosts' devices")
        person = Person(up.web, asked("session", "operator"))
        _click(up, person, names)  # imports, pools and queues: a server that somebody uses has them
        clicks = [_click(up, person, names) for _ in range(TIMES)]
    return _figures(clicks)


def _figures(clicks: list[Click]) -> list[Figure]:
    name = f"one click on {N_HOSTS} hosts"
    return [
        _worst(f"{name}: answered", [click.answered for click in clicks], MOST_SECONDS),
        Figure("the same: CPU of the web server, median", median(click.web_cpu for click in clicks), "s"),
        Figure("the same: the page of all its jobs, median", median(click.page for click in clicks) * 1000, "ms"),
        _worst(
            f"the same: until it shows all {N_HOSTS} measuring", [click.live for click in clicks], MOST_LIVE_SECONDS
        ),
    ]


def _worst(name: str, seconds: list[float], most: float) -> Figure:
    each = ", ".join(f"{value:.2f}" for value in seconds)
    worst = max(seconds)
    return Figure(f"{name}, worst of {each}", worst, "s", target=f"at most {most:g}", met=worst <= most)


def _click(up: Up, person: Person, names: list[str]) -> Click:
    """Launch on all hosts, look until all are shown running, and cancel it again. Raises BenchFailed."""
    before, began = up.cpu_seconds()["web"], time.monotonic()
    page = person.post(_LAUNCH, {**_FORM, "host": names})
    answered, web_cpu = time.monotonic() - began, up.cpu_seconds()["web"] - before
    looked = time.monotonic()
    shown = person.get(page)
    took = time.monotonic() - looked
    if shown.count("/reference/") < len(names):
        raise BenchFailed(f"the page of the launch does not show {len(names)} jobs")

    def n_shown(words: str) -> int:
        return len(re.findall(rf"</svg>{words}</span>", person.get(page, **{"HX-Request": "true"})))

    wait_until(lambda: n_shown("Measuring") == len(names), _PATIENCE_SECONDS, "all jobs on the page")
    live = time.monotonic() - began
    launch = page.rpartition("=")[2]
    person.post(f"/reference/launches/{launch}/cancel/", {})
    wait_until(lambda: n_shown("Cancelled") == len(names), _PATIENCE_SECONDS, "the end of all jobs")
    return Click(answered, web_cpu, took, live)


@contextmanager
def _hosts(directory: Path) -> Iterator[tuple[Calls, list[str]]]:
    """Yield what asks the store, and the names of the hosts, which live in a process of their own."""
    own = environment(directory)
    store, asked = Calls(own), Calls(own, "training.bench.asked")
    names = [f"sim-{number:03}" for number in range(N_HOSTS)]
    told = {"broker_url": store("broker_url"), "seeds": store("enrol", names), "public_key": asked("public_key")}
    asked("let_run", names)
    process = subprocess.Popen(
        [sys.executable, "-m", "training.bench.answering_hosts"], cwd=BASE_DIR, stdin=subprocess.PIPE, text=True
    )
    assert process.stdin is not None  # noqa: S101 — Popen promises it
    try:
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        yield asked, names
    finally:
        process.stdin.close()
        process.wait()
        store.end()
        asked.end()
