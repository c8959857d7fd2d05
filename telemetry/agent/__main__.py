"""`stepwatt-agent`: the host's own command."""

import argparse
import os
import sys

from telemetry.agent.app import run
from telemetry.agent.config import ConfigInvalid, read_config


def main() -> None:
    parser = argparse.ArgumentParser(prog="stepwatt-agent", description="Stepwatt's agent on a GPU host.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("run", help="sample this machine and take orders until stopped")
    start.add_argument("--name", default="", help="the host's name in Stepwatt (default: the machine's)")
    arguments = parser.parse_args()
    try:
        run(read_config(os.environ, name=arguments.name))
    except ConfigInvalid as error:
        sys.exit(f"stepwatt-agent: {error}")


if __name__ == "__main__":
    main()
