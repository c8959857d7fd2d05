"""The supervisor over real child processes, itself a process of its own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
from django.conf import settings

from fleet.up.supervisor import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, Console, Supervisor, delay_after
from tests.process.traces import processes_of, wait_until

SLEEPER = "import time; print('ready'); time.sleep(60)"
# Says when it is ready; notes each signal in a file that all children share, and ends a moment later.
NOTING = """
import pathlib, signal, sys, time
def note(number, frame):
    with open("signals", "a") as file:
        file.write(f"NAME {signal.Signals(number).name}\\n")
    global end
    end = time.monotonic() + 0.3
end = float("inf")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, note)
print("ready")
while time.monotonic() < end:
    time.sleep(0.02)
"""


class Running:
    """A supervisor process, with its output in a file."""

    def __init__(self, directory: Path, process: subprocess.Popen, children: int) -> None:
        self.directory, self.process, self._children = directory, process, children

    @property
    def output(self) -> str:
        return (self.directory / "output").read_text()

    def wait_ready(self) -> None:
        wait_until(lambda: self.output.count("| ready") >= self._children, 60, "every child's 'ready'")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def _start(directory: Path, children: list[dict], stop_seconds: float, output: IO | int) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.process.supervise",
            json.dumps({"children": children, "stop_seconds": stop_seconds}),
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(settings.BASE_DIR)},
        stdout=output,
        start_new_session=True,
    )


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator:
    started = []

    def start(codes: dict[str, str], *, last: str = "", stop_seconds: float = 7.0) -> Running:
        children = [
            {"name": name, "argv": [sys.executable, "-uc", code], "ends_last": name == last}
            for name, code in codes.items()
        ]
        with (tmp_path / "output").open("wb") as output:
            process = _start(tmp_path, children, stop_seconds, output)
        started.append(process)
        return Running(tmp_path, process, len(codes))

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_delay_doubles_up_to_its_limit():
    delays = [0.0]
    for _ in range(8):
        delays.append(delay_after(delays[-1], ran_seconds=1.0))
    assert delays[1:4] == [0.5, 1.0, 2.0]
    assert delays[-1] == LONGEST_DELAY_SECONDS


def test_a_child_that_ran_well_starts_again_quickly():
    assert delay_after(LONGEST_DELAY_SECONDS, ran_seconds=30.0) == FIRST_DELAY_SECONDS


def test_it_starts_an_ended_child_again_after_growing_delays(supervise, tmp_path):
    running = supervise({"brief": "import time; open('starts', 'a').write(f'{time.monotonic()}\\n')"})
    starts = tmp_path / "starts"
    wait_until(lambda: starts.exists() and starts.read_text().count("\n") >= 3, 60, "a third start")
    first, second, third = map(float, starts.read_text().split()[:3])
    assert second - first >= 0.5
    assert third - second >= 1.0
    assert re.findall(r"starts again in (\S+) s", running.output)[:2] == ["0.5", "1"]


def test_it_says_how_a_child_ended(supervise):
    running = supervise({"bad": "import sys; sys.exit(3)", "shot": "import os; os.kill(os.getpid(), 9)"})
    wait_until(lambda: running.output.count("starts again") >= 2, 60)
    assert "bad ended with status 3; it starts again in 0.5 s" in running.output
    assert "shot ended by SIGKILL; it starts again in 0.5 s" in running.output


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path):
    program = tmp_path / "program"
    process = _start(tmp_path, [{"name": "late", "argv": [str(program)], "ends_last": False}], 5, subprocess.PIPE)
    with process, contextlib.closing(process.stdout):
        assert b"late cannot be started" in process.stdout.readline()
        program.write_text("#!/bin/sh\necho here\n")
        program.chmod(0o700)
        lines = iter(process.stdout.readline, b"")
        assert any(line.endswith(b"late | here\n") for line in lines)
        process.terminate()


def test_ctrl_c_is_one_sigterm_to_each_child_and_the_last_one_waits(supervise, tmp_path):
    codes = {name: NOTING.replace("NAME", name) for name in ("broker", "worker", "web")}
    running = supervise(codes, last="broker")
    running.wait_ready()
    os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does
    assert running.process.wait(60) == 0
    assert (tmp_path / "signals").read_text().splitlines()[-1] == "broker SIGTERM"
    assert sorted((tmp_path / "signals").read_text().splitlines()) == [f"{name} SIGTERM" for name in sorted(codes)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_stops_cleanly_and_leaves_nothing(supervise, tmp_path, number):
    running = supervise({"one": SLEEPER, "two": SLEEPER})
    running.wait_ready()
    assert running.stop(number) == 0
    assert processes_of(tmp_path) == []


def test_kill_9_of_the_supervisor_ends_every_child(supervise, tmp_path):
    running = supervise({"one": SLEEPER, "stubborn": f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEPER}"})
    running.wait_ready()
    assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: processes_of(tmp_path) == [], 60, "the end of every child")


def test_a_child_that_ignores_sigterm_is_killed_in_time(supervise, tmp_path):
    running = supervise({"deaf": f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEPER}"}, stop_seconds=0.5)
    running.wait_ready()
    assert running.stop() == 0
    assert "deaf did not stop within 0.5 s and is killed" in running.output
    assert processes_of(tmp_path) == []


def test_it_kills_what_a_child_left_in_another_session(supervise, tmp_path):
    grandchild = "import time; print('ready'); time.sleep(60)"
    command = f"[sys.executable, '-uc', {grandchild!r}]"
    parent = f"import subprocess, sys; subprocess.Popen({command}, start_new_session=True)"
    running = supervise({"parent": f"{parent}; {SLEEPER}"})
    wait_until(lambda: running.output.count("| ready") == 2, 60, "parent and grandchild")
    assert running.stop() == 0
    assert processes_of(tmp_path) == []


def test_each_line_is_whole_and_carries_its_speakers_name(supervise):
    running = supervise(
        {
            "a": f"import sys, time; sys.stdout.write('first h'); time.sleep(0.3); print('alf'); {SLEEPER}",
            "bcd": "print('one'); print('two', end='')",
        }
    )
    wait_until(lambda: "half" in running.output and "starts again" in running.output, 60)
    said = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in running.output.splitlines()]
    assert "a   | first half" in said
    assert [line for line in said if line.startswith("bcd |")][:2] == ["bcd | one", "bcd | two"]


def test_it_stops_when_nobody_reads_its_output(tmp_path):
    talker = "import time\nwhile True: print('ready'); time.sleep(0.05)"
    children = [{"name": "talker", "argv": [sys.executable, "-uc", talker], "ends_last": False}]
    process = _start(tmp_path, children, 5, subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert processes_of(tmp_path) == []


def test_it_uses_no_processor_time_at_rest(supervise):
    running = supervise({"one": SLEEPER})
    running.wait_ready()
    supervisor = psutil.Process(running.process.pid)

    def rests() -> bool:
        before = supervisor.num_ctx_switches().voluntary
        is_idle = supervisor.cpu_percent(interval=1.0) <= 1.0
        return is_idle and supervisor.num_ctx_switches().voluntary - before <= 2  # it sleeps until something happens

    wait_until(rests, 60, "its rest, once the start is over")


def test_it_spares_children_that_were_there_before():
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE) as before:
        before.stdout.readline()
        with Supervisor(Console(sys.stderr.buffer, ("bench",)), own_name="bench"):
            inside = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.DEVNULL)
        assert before.poll() is None
        assert not psutil.pid_exists(inside.pid)
        before.kill()
