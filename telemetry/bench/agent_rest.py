"""The agent's Celery worker alone, without sampler, batcher and sender: what the agent's cost is measured over.

Run by the bench as a process of its own: `python -m telemetry.bench.agent_rest`. No Django.
"""

import logging
import os

from telemetry.agent.app import create_app, create_worker
from telemetry.agent.config import read_config

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    config = read_config(os.environ)
    create_worker(create_app(config), config).start()
