"""Recorded `/proc/<pid>` folders for a test: what the kernel says of a process."""

# One container id in full; tools show its first twelve digits.
CONTAINER = "3f2a81c09d17b6e4" * 4
POD = "0b1c8f2e-53a1-4c9d-9c0e-6a1f0e5d7b42"

STAT = "{pid} ({name}) S 1 {pid} {pid} 0 -1 4194560 1 0 0 0 5 3 0 0 20 0 9 0 {started} 1 1 18446744073709551615 1 1\n"


class Proc:
    """A folder that stands for `/proc`."""

    def __init__(self, root):
        self.root = root

    def add(
        self, pid, *, command=b"python\0train.py\0", name="python", uid=0, groups="0::/\n", environment=b"", started=500
    ):
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_text(STAT.format(pid=pid, name=name, started=started))
        (folder / "status").write_text(f"Name:\t{name}\nState:\tS (sleeping)\nUid:\t{uid}\t0\t0\t0\n")
        (folder / "cmdline").write_bytes(command)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cgroup").write_text(groups)
        (folder / "environ").write_bytes(environment)
        return folder
