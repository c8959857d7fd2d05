"""The systemd unit of the server, as docs/install.md has it, read by systemd itself."""

import re
import subprocess
import sys
from pathlib import Path

from tests.programs import require

_INSTALL = Path(__file__).parents[2] / "docs" / "install.md"


def test_systemd_finds_no_fault_in_it(tmp_path):
    (unit,) = re.findall(r"```ini\n(.*?)```", _INSTALL.read_text(), re.DOTALL)
    path = tmp_path / "stepwatt.service"
    path.write_text(unit.replace("/opt/stepwatt/.venv/bin/python", sys.executable))

    checked = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )

    assert "ExecStart=" in unit
    assert (checked.returncode, checked.stderr) == (0, "")
