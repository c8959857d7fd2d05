"""uvicorn's protocol on httptools, with an end to a request's head. Named by processes.py.

By itself it keeps address and headers however much comes of them, before anybody is asked who he is. uvicorn's other protocol,
on h11, ends a head at as many bytes.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 65_536


class Protocol(HttpToolsProtocol):
    """Answers 400 to a head that has not ended by then, and hangs up."""

    _n_ended = 0  # heads
    _is_in_body = False
    _n_bytes = 0  # of a head that has not ended

    def data_received(self, data: bytes) -> None:
        was_in_body, n_ended = self._is_in_body, self._n_ended
        super().data_received(data)
        if was_in_body or self._is_in_body or self._n_ended > n_ended:
            self._n_bytes = 0
            return
        self._n_bytes += len(data)
        if self._n_bytes > MOST_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The request's head has more than {MOST_BYTES:,} bytes.")

    def on_headers_complete(self) -> None:
        self._n_ended += 1
        self._is_in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_body = False
        super().on_message_complete()
