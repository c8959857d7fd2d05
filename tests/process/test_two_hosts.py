"""An installation with a second host: PostgreSQL and Redis outside, an agent of another name beside the server's own."""

import os
import subprocess
import sys

from tests.process.traces import wait_until
from tests.servers import postgresql, redis
from tests.stack import ROOT, start_stack


def test_a_second_host_joins_and_runs_a_job_on_postgresql_and_redis(tmp_path):
    with postgresql(tmp_path) as database_url, redis(tmp_path) as broker_url:
        settings = {"STEPWATT_DATABASE_URL": database_url, "STEPWATT_BROKER_URL": broker_url}
        with start_stack(tmp_path, **settings) as stack, second_agent(tmp_path, broker_url):
            client = stack.signed_in()
            wait_until(lambda: client.get("/api/v1/hosts").json()["count"] == 2, 30, "both hosts")
            own = next(item["name"] for item in client.get("/api/v1/hosts").json()["items"] if item["name"] != "second")
            wait_until(lambda: client.get(f"/api/v1/hosts/{own}").json()["devices"], 30, "the device")

            launched = stack.manage("reference", "gpt-train", "--host", own, "--param", "steps=5", "--wait")

            assert launched.returncode == 0, launched.stdout + launched.stderr
            assert client.get(f"/hosts/{own}/").status_code == 200
            assert client.get("/").status_code == 200
            assert client.get("/readyz").json()["status"] == "ok"
            client.close()


def second_agent(directory, broker_url) -> subprocess.Popen:
    """Start an agent as docs/agents.md says, under another name. A context: it is stopped at the end."""
    environment = os.environ | {"STEPWATT_DATA_DIR": str(directory / "second"), "STEPWATT_BROKER_URL": broker_url}
    command = [sys.executable, "-m", "telemetry.agent", "run", "--name", "second"]

    class Running(subprocess.Popen):
        def __exit__(self, *error: object) -> None:
            self.terminate()
            super().__exit__(*error)

    return Running(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
