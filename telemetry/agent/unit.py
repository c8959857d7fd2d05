"""The systemd unit of an agent: `stepwatt-agent print-unit`. Paths are those of the interpreter and directory in use."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_INSTALLED = Path(sys.executable).with_name("stepwatt-agent")  # not resolved: a venv's python is a link
_ROOT = Path(__file__).resolve().parents[2]
# Settings that go along; a broker's URL holds a password and does not, its file does.
_SETTINGS = (
    "STEPWATT_DATA_DIR",
    "STEPWATT_SOCKET",
    "STEPWATT_JOB_PYTHON",
    "STEPWATT_JOB_ADDRESS",
    "STEPWATT_SAMPLE_SECONDS",
    "STEPWATT_BATCH_SECONDS",
    "STEPWATT_SPOOL_BYTES",
    "STEPWATT_SPOOL_DAYS",
    "STEPWATT_BROKER_URL_FILE",
    "STEPWATT_BROKER_CA",
    "STEPWATT_POD_RESOURCES_SOCKET",
    "STEPWATT_SLURM_GPU_DIRECTORY",
)

_SYSTEM = """\
# Stepwatt's agent. Install it with:
#   {command} print-unit > /etc/systemd/system/stepwatt-agent.service
#   systemctl daemon-reload && systemctl enable --now stepwatt-agent
[Unit]
Description=Stepwatt agent
Wants=network-online.target
After=network-online.target
# A broker or driver that is away for long is no reason to give up.
StartLimitIntervalSec=0

[Service]
{place}ExecStart={command} run
{environment}Restart=always
RestartSec=5
# The agent ends its jobs itself; what is left after it, in sessions of its own, goes with it.
KillMode=mixed
TimeoutStopSec=20
UMask=0077
# A job's torch may take all memory: the kernel is to end the job, and systemd is to leave the agent.
OOMPolicy=continue

# Where training loops send their steps; containers have it as a mount, which a restart must not cut off.
RuntimeDirectory=stepwatt
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes

# Devices stay visible (no PrivateDevices, no DevicePolicy): reading them is the agent's work. The same holds for /proc.
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={writable}
ProtectHome=read-only
PrivateTmp=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectHostname=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""

_USER = """\
# Stepwatt's agent. Install it with:
#   {command} print-unit > ~/.config/systemd/user/stepwatt-agent.service
#   systemctl --user daemon-reload && systemctl --user enable --now stepwatt-agent
# So that it runs while nobody is signed in: loginctl enable-linger
[Unit]
Description=Stepwatt agent
StartLimitIntervalSec=0

[Service]
{place}ExecStart={command} run
{environment}Restart=always
RestartSec=5
KillMode=mixed
TimeoutStopSec=20
UMask=0077
NoNewPrivileges=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=default.target
"""


def unit(directory: Path, env: Mapping[str, str]) -> str:
    """Return the unit's text: hardened for root, and a user's unit for anybody else."""
    socket = env.get("STEPWATT_SOCKET")
    writable = [directory, *([Path(socket).resolve().parent] if socket else [])]
    template = _SYSTEM if os.geteuid() == 0 else _USER
    return template.format(
        command=_command(),
        place="" if _is_installed() else f"WorkingDirectory={str(_ROOT).replace('%', '%%')}\n",
        environment="".join(_setting(name, env[name]) for name in _SETTINGS if env.get(name)),
        writable=" ".join(_quoted(str(path)) for path in dict.fromkeys(writable)),
    )


def _is_installed() -> bool:
    return _INSTALLED.exists()


def _command() -> str:
    words = [str(_INSTALLED)] if _is_installed() else [sys.executable, "-m", "telemetry.agent"]
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _setting(name: str, value: str) -> str:
    path = name.rpartition("_")[2] not in {"SECONDS", "BYTES", "DAYS"}
    return f"Environment={_quoted(f'{name}={Path(value).resolve() if path else value}')}\n"


def _quoted(text: str) -> str:
    """Return the text as one word of a unit file (systemd.syntax): % is its own sign for names."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(sign in text for sign in " \t\"'\\;$") else escaped
