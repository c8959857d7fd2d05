"""`stepwatt-agent`: the host's own command. Each subcommand loads only what it needs."""

import argparse
import os
import sys
from pathlib import Path

from telemetry.agent.config import agent_directory, read_config
from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.version import version

RELEASE_MINUTES = 15


def main(arguments: list[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    try:
        given.act(given)
    except (ConfigInvalid, OSError) as error:
        sys.exit(f"stepwatt-agent: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stepwatt-agent", description="Stepwatt's agent on a GPU host.")
    parser.add_argument("--version", action="version", version=f"stepwatt-agent {version()}")
    commands = parser.add_subparsers(dest="command", required=True)

    join = commands.add_parser("join", help="become a host of a fleet; `manage.py add_host` prints the whole line")
    join.add_argument("url", metavar="URL", help="the server's address")
    join.add_argument("--token", required=True, help="the one-time token")
    join.add_argument("--server-key", required=True, metavar="SHA256:…", help="the fingerprint of the server's key")
    join.add_argument("--ca", type=Path, metavar="FILE", help="authorities of the server's certificate, PEM")
    join.set_defaults(act=_join)

    commands.add_parser("run", help="sample this machine and take orders until stopped").set_defaults(act=_run)

    release = commands.add_parser("release", help="let go of the drivers, so that a GPU can be reset")
    release.add_argument(
        "--minutes", type=float, default=RELEASE_MINUTES, help=f"for how long (default {RELEASE_MINUTES})"
    )
    release.set_defaults(act=_release)

    commands.add_parser("resume", help="take the drivers up again").set_defaults(act=_resume)
    commands.add_parser("print-unit", help="print a systemd unit for this agent").set_defaults(act=_print_unit)
    commands.add_parser("rotate-key", help="give this host a new key").set_defaults(act=_rotate_key)
    return parser


def _join(given: argparse.Namespace) -> None:
    from telemetry.agent.join import join

    ca_file = str(given.ca.resolve()) if given.ca else ""
    directory = agent_directory(os.environ)
    joined = join(directory, given.url, given.token, given.server_key, ca_file=ca_file, warn=_warn)
    _say(f"joined {joined.server_url} as {joined.host}" + (f" of cluster {joined.cluster}" if joined.cluster else ""))


def _run(given: argparse.Namespace) -> None:
    from telemetry.agent.app import run
    from telemetry.agent.join import finish

    finish(agent_directory(os.environ))
    run(read_config(os.environ))


def _release(given: argparse.Namespace) -> None:
    from telemetry.agent import control

    control.release(agent_directory(os.environ), given.minutes)


def _resume(given: argparse.Namespace) -> None:
    from telemetry.agent import control

    control.resume(agent_directory(os.environ))


def _print_unit(given: argparse.Namespace) -> None:
    from telemetry.agent.unit import unit

    _say(unit(agent_directory(os.environ), os.environ), end="")


def _rotate_key(given: argparse.Namespace) -> None:
    from telemetry.agent.join import rotate_key
    from telemetry.agent.server_call import CallFailed
    from telemetry.message.envelope import fingerprint

    try:
        renewed = rotate_key(agent_directory(os.environ))
    except CallFailed as error:
        if error.is_refusal:
            raise
        raise ConfigInvalid(f"{error}; the old key is in use, and a running agent asks again by itself") from error
    _say(f"{renewed.host} has the new key {fingerprint(renewed.public_key)}; a running agent takes it up by itself")


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end)  # noqa: T201 — a command's answer


def _warn(text: str) -> None:
    print(f"stepwatt-agent: {text}", file=sys.stderr)  # noqa: T201 — a command's warning


if __name__ == "__main__":
    main()
