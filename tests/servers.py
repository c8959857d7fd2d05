"""PostgreSQL, Redis and RabbitMQ as an installation with several hosts has them: on private ports, gone with their test."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from tests.certificates import ServerFiles
from tests.ports import free_port
from tests.process.traces import wait_until
from tests.programs import require

START_SECONDS, STOP_SECONDS = 180, 120


class PostgreSQL:
    """A server with an empty database at `url`; it can be killed and comes back with what it held.

    Its directory is not pytest's: a run that begins closes the folder of all runs to other users, and PostgreSQL, which
    refuses to run as root and so runs as Debian's user for it, then ends at its next checkpoint.
    """

    def __init__(self) -> None:
        self._programs, self._port = Path(require("postgres")).resolve().parent, free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="stepwatt-postgresql-")
        self._data, self._log = Path(self._directory.name) / "data", Path(self._directory.name) / "log"
        self.url = f"postgres://stepwatt@127.0.0.1:{self._port}/postgres"
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as_user:
            shutil.chown(self._directory.name, "postgres")
        options = ["--pgdata", self._data, "--auth", "trust", "--username", "stepwatt", "--no-sync"]
        subprocess.run(
            [*self._as_user, self._programs / "initdb", *options], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )

    def start(self) -> None:
        options = ["-D", self._data, "-p", str(self._port), "-c", "listen_addresses=127.0.0.1"]
        options += ["-c", f"unix_socket_directories={self._data}"]
        command = [*self._as_user, self._programs / "postgres", *options]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C is the tests' to hear, and they then stop it.
            self._server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        wait_until(lambda: self.has_ended or _takes_connections(self.url), START_SECONDS, "PostgreSQL")
        self.check()

    @property
    def has_ended(self) -> bool:
        return self._server.poll() is not None

    def check(self) -> None:
        """Raise AssertionError where it does not run, with what it said last."""
        assert not self.has_ended, (
            f"PostgreSQL on port {self._port} ended with status {self._server.returncode}. Its last lines:\n{self._last_lines}"
        )

    @property
    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])

    def stop(self) -> None:
        """Raises AssertionError where it had ended by itself."""
        stop = [self._programs / "pg_ctl", "stop", "--pgdata", self._data, "--mode", "immediate", "--silent"]
        with self._directory:
            self.check()
            subprocess.run([*self._as_user, *stop], check=True, cwd="/", stdout=subprocess.DEVNULL)
            self._server.wait(timeout=STOP_SECONDS)

    @property
    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self._data / "postmaster.pid").read_text().splitlines()[0]))

    def kill(self) -> None:
        """End all its processes at once, as a power cut does, and start it again."""
        family = [self.postmaster, *self.postmaster.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):  # a backend whose client has just left
                process.kill()
        psutil.wait_procs(family, timeout=STOP_SECONDS)
        self._server.wait(timeout=STOP_SECONDS)
        self.start()


@contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of an empty database."""
    with postgresql_server() as server:
        yield server.url


def _takes_connections(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


class RedisServer:
    """A Redis at `url`, with a password, and with TLS where it is given files for it. It keeps nothing over its end."""

    def __init__(self, directory: Path, tls: ServerFiles | None = None, address: str = "127.0.0.1") -> None:
        self._address, self._port = address, free_port()
        self.url = f"{'rediss' if tls else 'redis'}://:geheim@{address}:{self._port}/0"
        options = ["--bind", address, "--requirepass", "geheim", "--save", "", "--dir", directory]
        if tls:
            files = ["--tls-cert-file", tls.certificate, "--tls-key-file", tls.key, "--tls-ca-cert-file", tls.authority]
            options += ["--port", "0", "--tls-port", str(self._port), *files, "--tls-auth-clients", "no"]
        else:
            options += ["--port", str(self._port)]
        self._command = [require("redis-server"), *options]

    def start(self) -> None:
        self._server = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(lambda: listens(self._address, self._port), START_SECONDS, "Redis")

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(timeout=STOP_SECONDS)

    def kill(self) -> None:
        """End it at once, with all that it held, and start it again."""
        self._server.kill()
        self._server.wait(timeout=STOP_SECONDS)
        self.start()


@contextmanager
def redis_server(directory: Path, tls: ServerFiles | None = None, address: str = "127.0.0.1") -> Iterator[RedisServer]:
    server = RedisServer(directory, tls, address)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def redis(directory: Path, tls: ServerFiles | None = None, address: str = "127.0.0.1") -> Iterator[str]:
    """Yield the URL of a Redis."""
    with redis_server(directory, tls, address) as server:
        yield server.url


@contextmanager
def rabbitmq(directory: Path, tls: ServerFiles) -> Iterator[str]:
    """Yield the URL of a RabbitMQ with TLS: a node, a cookie, a port mapper and folders that are this test's own."""
    require("rabbitmq-server")
    home, port, mapper_port = directory / "rabbitmq", free_port(), free_port()
    home.mkdir()
    configuration = RABBITMQ.format(port=port, authority=tls.authority, certificate=tls.certificate, key=tls.key)
    (home / "rabbitmq.conf").write_text(configuration)
    (home / "enabled_plugins").write_text("[].\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),  # where Erlang keeps its cookie
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"stepwatt-{port}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
    }
    with _child([require("epmd"), "-port", str(mapper_port)], home, environment):  # Erlang's own would outlive the node
        wait_until(lambda: listens("127.0.0.1", mapper_port), START_SECONDS, "Erlang's port mapper")
        with _child([RABBITMQ_SERVER], home, environment):  # not Debian's wrapper, which changes user and folder
            wait_until(lambda: listens("127.0.0.1", port), 2 * START_SECONDS, "RabbitMQ")
            yield f"amqps://stepwatt:geheim@127.0.0.1:{port}//"


RABBITMQ_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
RABBITMQ = """
listeners.tcp = none
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {authority}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
default_user = stepwatt
default_pass = geheim
disk_free_limit.absolute = 50MB
"""


@contextmanager
def _child(command: list[str], directory: Path, environment: dict[str, str]) -> Iterator[None]:
    with (directory / "output").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        process.wait(timeout=STOP_SECONDS)
        for child in psutil.wait_procs(children, timeout=STOP_SECONDS)[1]:
            child.kill()


def listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True
