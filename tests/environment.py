"""Loaded by pytest before Django's settings: a test run has a data directory of its own and none of the caller's settings.

Where torch trains in a test's process, its threads do not spin at a barrier, as in a job's (training/host/process.py).
"""

import atexit
import os
import shutil
import tempfile

for name in [name for name in os.environ if name.startswith("STEPWATT_")]:
    del os.environ[name]
_directory = tempfile.mkdtemp(prefix="stepwatt-tests-")
atexit.register(shutil.rmtree, _directory, ignore_errors=True)
os.environ["STEPWATT_DATA_DIR"] = _directory
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
