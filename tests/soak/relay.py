"""A network that can be cut: a relay of TCP connections on the loopback, on a thread of its own."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Relay:
    """Passes bytes between whoever connects to `port` and the target. While it is cut, nothing passes and nobody connects."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._is_cut = self._is_over = False
        self.is_missed = False  # somebody has wanted to send or to connect while it was cut
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Like a cable that is pulled: connections stay open and silent."""
        self._is_cut, self.is_missed = True, False

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        for each in (self._listener, *self._peers):
            each.close()

    def _run(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(timeout=0.1):
                if self._is_cut:
                    self.is_missed = True
                    self._is_over or threading.Event().wait(0.05)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pass(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._target, 5)
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, source: socket.socket) -> None:
        if source not in self._peers:
            return  # its other half ended in this very round
        try:
            data = source.recv(65_536)
            if data:
                self._peers[source].sendall(data)
                return
        except OSError:
            data = b""
        for each in (source, self._peers[source]):
            self._selector.unregister(each)
            self._peers.pop(each)
            each.close()


@contextmanager
def relay(target_port: int) -> Iterator[Relay]:
    running = Relay(target_port)
    try:
        yield running
    finally:
        running.close()


def through(network: Relay, url: str) -> str:
    """Return the URL of a server on the loopback as who is behind this network knows it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{network.port}")).geturl()
