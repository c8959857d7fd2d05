"""Whose a process is, from recorded files of `/proc`, and from this machine's own."""

import os
import pwd
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.agent.backends import ownership
from telemetry.agent.backends.ownership import Owner, container_of, describe, slurm_job_of
from telemetry.message.wire import text
from tests.telemetry.process_files import CONTAINER, POD, Proc

SHORT = CONTAINER[:12]
POD_SLICE = POD.replace("-", "_")
POD_V1 = f"/kubepods/burstable/pod{POD}"
POD_V2 = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_SLICE}.slice"

CONTAINERS = {
    "docker, version 1": (f"11:devices:/docker/{CONTAINER}\n1:name=systemd:/docker/{CONTAINER}", f"docker:{SHORT}"),
    "docker, version 2 with systemd": (f"0::/system.slice/docker-{CONTAINER}.scope", f"docker:{SHORT}"),
    "docker, version 2 with cgroupfs": (f"0::/docker/{CONTAINER}", f"docker:{SHORT}"),
    "docker, without root": (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{CONTAINER}.scope",
        f"docker:{SHORT}",
    ),
    "docker under a parent of the user's": (f"0::/lab.slice/docker-{CONTAINER}.scope/init", f"docker:{SHORT}"),
    "containerd, version 1": (f"8:memory:{POD_V1}/{CONTAINER}", f"kubernetes:{SHORT} pod:{POD}"),
    "containerd, version 1 with systemd": (
        f"8:memory:{POD_V2}/cri-containerd-{CONTAINER}.scope",
        f"containerd:{SHORT} pod:{POD}",
    ),
    "containerd, version 2": (f"0::{POD_V2}/cri-containerd-{CONTAINER}.scope", f"containerd:{SHORT} pod:{POD}"),
    "containerd, guaranteed": (
        f"0::/kubepods.slice/kubepods-pod{POD_SLICE}.slice/cri-containerd-{CONTAINER}.scope",
        f"containerd:{SHORT} pod:{POD}",
    ),
    "containerd with the other cgroup driver": (
        f"9:memory:/system.slice/containerd.service/kubepods-besteffort-pod{POD_SLICE}.slice:cri-containerd:{CONTAINER}",
        f"containerd:{SHORT} pod:{POD}",
    ),
    "crio, version 1": (f"4:memory:{POD_V1}/crio-{CONTAINER}", f"crio:{SHORT} pod:{POD}"),
    "crio, version 2": (f"0::{POD_V2}/crio-{CONTAINER}.scope", f"crio:{SHORT} pod:{POD}"),
    "a mirror pod": (
        f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '')}.slice/crio-{CONTAINER}.scope",
        f"crio:{SHORT} pod:{POD.replace('-', '')}",
    ),
    "a pod of a cluster in a container": (
        f"0::/docker/{'ab' * 32}/kubelet.slice/kubelet-kubepods-pod{POD_SLICE}.slice/cri-containerd-{CONTAINER}.scope",
        f"containerd:{SHORT} pod:{POD}",
    ),
    "podman": (f"0::/machine.slice/libpod-{CONTAINER}.scope/container", f"podman:{SHORT}"),
    "podman, without root": (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{CONTAINER}.scope/container",
        f"podman:{SHORT}",
    ),
    "podman with cgroupfs": (f"0::/libpod_parent/libpod-{CONTAINER}", f"podman:{SHORT}"),
    "another runtime": (f"0::/ecs/9f3c/{CONTAINER}", f"container:{SHORT}"),
    "lxc, version 1": ("5:memory:/lxc/web-01/init.scope", "lxc:web-01"),
    "lxc, version 2": ("0::/lxc.payload.web-01/system.slice/cron.service", "lxc:web-01"),
    "docker in lxc": (f"0::/lxc.payload.c1/system.slice/docker-{CONTAINER}.scope", f"docker:{SHORT}"),
    "none": ("0::/user.slice/user-1000.slice/session-3.scope", ""),
    "none, version 1": ("3:cpu,cpuacct:/user.slice\n0::/user.slice/user-0.slice", ""),
    "the service of docker itself": ("0::/system.slice/docker.service", ""),
    "a Slurm job": ("0::/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0", ""),
}

JOBS = {
    "version 1": (
        "9:memory:/slurm/uid_1000/job_4711/step_0/task_0\n1:name=systemd:/system.slice/slurmd.service",
        "4711",
    ),
    "version 1, named by its node": ("4:devices:/slurm_node01/uid_1000/job_4711/step_batch", "4711"),
    "version 2": ("0::/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0", "4711"),
    "version 2, several daemons": ("0::/system.slice/node01_slurmstepd.scope/job_4711/step_extern", "4711"),
    "a container in a job": (
        f"0::/system.slice/slurmstepd.scope/job_4711/step_0/user/docker-{CONTAINER}.scope",
        "4711",
    ),
    "the daemon itself": ("0::/system.slice/slurmstepd.scope/system", ""),
    "another's job": ("0::/user.slice/job_4711/x", ""),
}


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path)


@pytest.mark.parametrize(("groups", "container"), CONTAINERS.values(), ids=CONTAINERS)
def test_it_finds_the_container(groups, container):
    assert container_of(groups) == container


@pytest.mark.parametrize(("groups", "job"), JOBS.values(), ids=JOBS)
def test_it_finds_the_slurm_job(groups, job):
    assert slurm_job_of(groups) == job


def test_it_puts_together_what_proc_tells(proc):
    proc.add(4242, groups=f"0::/system.slice/docker-{CONTAINER}.scope", environment=b"HOME=/root\0SLURM_JOB_ID=77\0")
    assert describe(4242, proc.root) == Owner(pwd.getpwuid(0).pw_name, "python train.py", f"docker:{SHORT}", "77")


def test_the_job_of_the_control_group_counts_before_the_environments(proc):
    proc.add(1, groups="9:memory:/slurm/uid_0/job_5/step_0", environment=b"SLURM_JOB_ID=77\0")
    assert describe(1, proc.root).slurm_job == "5"


@pytest.mark.parametrize("environment", [b"MY_SLURM_JOB_ID=77\0", b"A=1\nSLURM_JOB_ID=77\0", b"SLURM_JOB_ID=7;rm\0"])
def test_another_variable_is_no_job(proc, environment):
    proc.add(1, environment=environment)
    assert describe(1, proc.root).slurm_job == ""


def test_nothing_else_of_the_environment_is_told(proc):
    proc.add(1, environment=b"API_KEY=hunter2\0SLURM_JOB_ID=77\0TOKEN=hunter3\0")
    assert "hunter" not in repr(describe(1, proc.root))


def test_a_user_whom_the_machine_does_not_know_is_a_number(proc):
    proc.add(1, uid=3_999_999_999)
    assert describe(1, proc.root).user == "3999999999"


def test_a_long_command_is_cut(proc):
    proc.add(1, command=b"python\0" + b"--flag\0" * 1000)
    command = describe(1, proc.root).command
    assert len(command) == 200
    assert command.startswith("python --flag --flag")


def test_a_process_without_arguments_goes_by_its_name(proc):
    proc.add(1, command=b"", name="kworker/u8:2")
    assert describe(1, proc.root).command == "kworker/u8:2"


def test_a_commands_control_characters_become_spaces(proc):
    proc.add(1, command=b"sh\0-c\0echo\x1b[2J\nrm\0\xff\0")
    assert describe(1, proc.root).command == "sh -c echo [2J rm \ufffd"


def test_a_process_that_has_ended_is_nobodys(proc):
    assert describe(12345, proc.root) == Owner()


def test_what_is_hidden_from_this_user_is_left_empty(proc):
    folder = proc.add(1)
    for name in ("cgroup", "environ", "cmdline"):
        (folder / name).unlink()
    assert describe(1, proc.root) == Owner(user="root", command="python")


def test_a_known_process_costs_one_read(proc, monkeypatch):
    proc.add(1)
    first = describe(1, proc.root)
    read, paths = ownership._read, []
    monkeypatch.setattr(ownership, "_read", lambda path, *rest: paths.append(path.name) or read(path, *rest))
    assert describe(1, proc.root) == first
    assert paths == ["stat"]


def test_a_pid_that_is_used_again_is_another_process(proc):
    proc.add(1, command=b"first\0", started=500)
    assert describe(1, proc.root).command == "first"
    proc.add(1, command=b"second\0", started=900)
    assert describe(1, proc.root).command == "second"


def test_a_name_with_brackets_and_spaces_does_not_hide_the_start(proc):
    proc.add(1, command=b"first\0", name="a) S 1 (b", started=500)
    describe(1, proc.root)
    proc.add(1, command=b"second\0", name="a) S 1 (b", started=900)
    assert describe(1, proc.root).command == "second"


def test_a_process_of_this_machine_is_found():
    with subprocess.Popen(["cat", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        process.stdout.readline()  # until then it may still be a copy of this process
        found = describe(process.pid)
        process.stdin.close()
    assert (found.user, found.command) == (pwd.getpwuid(os.getuid()).pw_name, "cat -")


@given(groups=st.text(max_size=500), command=st.binary(max_size=400), environment=st.binary(max_size=200))
def test_whatever_the_files_hold_the_wire_takes_it(tmp_path_factory, groups, command, environment):
    proc = Proc(tmp_path_factory.mktemp("proc"))
    folder = proc.add(1, command=command, environment=environment)
    (folder / "cgroup").write_bytes(groups.encode("utf-8", "surrogatepass"))
    found = describe(1, proc.root)
    for field, limit in (("command", 200), ("user", 100), ("container", 100), ("slurm_job", 100)):
        value = getattr(found, field)
        assert text(value, field, limit).encode().decode() == value
