"""The client's callbacks where their libraries are missing; tests/frameworks has them in real trainings."""

import subprocess
import sys

import pytest

from tests.frameworks.venvs import ROOT

CLIENT = str(ROOT / "training" / "client")
LIBRARIES = ("lightning", "pytorch_lightning", "transformers", "keras", "tensorflow", "torch")


def run(source: str) -> subprocess.CompletedProcess[str]:
    """Run the source without any installed package."""
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {CLIENT!r}); {source}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_client_alone_imports_no_library():
    done = run(f"import stepwatt; print(sorted(set({LIBRARIES}) & set(sys.modules)))")

    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("module", "library"),
    [("lightning", "pytorch_lightning"), ("transformers", "transformers"), ("keras", "keras")],
)
def test_a_callback_without_its_library_names_what_is_missing(module, library):
    done = run(f"import stepwatt.{module}")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: No module named '{library}'"
