"""A proxy between a client and a server that ends TLS, or stops in the middle of a request."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PIECE_BYTES = 16 * 1024


@dataclass
class TcpProxy:
    """Passes bytes between connections to `port` and the server.

    Once a client has sent the texts `stop_at`, one after the other, `stop_after` bytes from the
    last one on are passed on, and `has_stopped` is set: nothing more goes to the server, whose
    connection is broken when the client is gone (`has_hung_up`).
    """

    port: int
    stop_at: list[bytes] = field(default_factory=list)
    stop_after: int = 0
    has_stopped: threading.Event = field(default_factory=threading.Event)
    has_hung_up: threading.Event = field(default_factory=threading.Event)

    def forward(self, source: socket.socket, target: socket.socket) -> None:
        """Pass on what a client sends, as far as it may go."""
        left: int | None = None
        while piece := source.recv(_PIECE_BYTES):
            if left is None and self.stop_at and self.stop_at[0] in piece:
                begins_at = piece.index(self.stop_at.pop(0))
                if self.stop_at and self.stop_at[0] in piece[begins_at:]:
                    begins_at = piece.index(self.stop_at.pop(0), begins_at)
                if not self.stop_at:
                    left = begins_at + self.stop_after
            if left is not None:
                piece = piece[:left]
                left -= len(piece)
            target.sendall(piece)
            if left == 0:
                self.has_stopped.set()
                while source.recv(_PIECE_BYTES):  # swallowed until the client is gone
                    pass
                return


@contextmanager
def tcp_proxy(
    upstream: tuple[str, int], *, tls: ssl.SSLContext | None = None
) -> Iterator[TcpProxy]:
    """Run a proxy to `upstream` on a free port; with `tls` clients reach it by TLS alone."""
    listening = socket.create_server(("127.0.0.1", 0))
    proxy = TcpProxy(listening.getsockname()[1])
    open_sockets: set[socket.socket] = set()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                target.sendall(piece)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve(accepted: socket.socket) -> None:
        client = accepted
        with suppress(OSError), accepted:
            if tls is not None:
                client = tls.wrap_socket(accepted, server_side=True)
            server = socket.create_connection(upstream)
            open_sockets.update((client, server))
            with client, server:
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                with suppress(OSError):
                    proxy.forward(client, server)
                with suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                back.join()
            if proxy.has_stopped.is_set():
                proxy.has_hung_up.set()

    def accept() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                threading.Thread(target=serve, args=(accepted,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for each in open_sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        thread.join()
