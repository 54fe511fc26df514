"""Loopback sockets that count their bytes, so that it is known what is on its way in the kernel.

The rules: the sockets are the kernel's own and carry every byte. What one end has sent or closed is due at
the other until it has read it. A process whose gate is closed sends nothing and connects to nothing.

Left out: when to wait for what is due (`event_loop`), and everything but TCP within one process.
"""

import array
import errno
import fcntl
import selectors
import socket
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import count
from typing import Any, ClassVar
from unittest.mock import patch

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
READ_BYTES = 65_536  # a reader does not wait for more than this


class Gate:
    """All connections of one process. Closing it closes them."""

    def __init__(self) -> None:
        self.open = True
        self.sockets: list[CountedSocket] = []

    def close(self) -> None:
        """The process has ended."""
        self.open = False
        for each in self.sockets:
            if not each.closed:
                with suppress(OSError):  # it is not connected, and never will be
                    each.shutdown(socket.SHUT_RDWR)


GATE: ContextVar[Gate | None] = ContextVar("GATE", default=None)


class CountedSocket(socket.socket):
    """One end of a connection, or a listener."""

    network: ClassVar["Network"]

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - those of a socket
        super().__init__(*arguments, **named)
        self.number = next(self.network.numbers)
        self.network.by_descriptor[self.fileno()] = self
        self.peer: CountedSocket | None = None
        self.gate: Gate | None = None
        self.remote: object = None
        self.sent = self.received = 0
        self.closed = self.finished = False

    def listen(self, backlog: int = 128, /) -> None:
        """Accept connections from now on."""
        super().listen(backlog)
        self.network.listeners[self.getsockname()] = self

    def connect(self, address: Any, /) -> None:  # noqa: ANN401 - that of a socket
        """Begin to connect."""
        self.gate, self.remote = GATE.get(), address
        if self.network.refuses or (self.gate is not None and not self.gate.open):
            self.network.ignored += 1
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        if self.gate is not None:
            self.gate.sockets.append(self)
        try:
            super().connect(address)
        finally:
            self.network.connection_started(self)

    def accept(self) -> "tuple[CountedSocket, Any]":
        """Accept one connection."""
        taken, address = super().accept()
        assert isinstance(taken, CountedSocket)
        self.network.connection_accepted(taken, address)
        return taken, address

    def send(self, data: Any, flags: int = 0, /) -> int:  # noqa: ANN401 - that of a socket
        """Send some of the data."""
        if self.gate is not None and not self.gate.open:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        sent = super().send(data, flags)
        self.sent += sent
        self.network.update_due(self.peer)
        return sent

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Read what has arrived."""
        try:
            data = super().recv(size, flags)
        except BlockingIOError:
            raise
        except OSError:
            self.network.due.discard(self)
            raise
        self.received += len(data)
        if data:
            self.network.update_due(self)
        else:
            self.network.due.discard(self)
        return data

    def shutdown(self, how: int, /) -> None:
        """Close one direction or both."""
        super().shutdown(how)
        self.finished = True
        self.network.update_due(self.peer)

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            self.closed = self.finished = True
            self.network.socket_closed(self)
        super().close()

    def readable_bytes(self) -> int:
        """How many bytes have arrived and were not read."""
        number = array.array("i", [0])
        fcntl.ioctl(self.fileno(), termios.FIONREAD, number)
        return number[0]


class Network:
    """All sockets created while `in_use`. `refuses` says that connections are refused."""

    def __init__(self) -> None:
        self.refuses = False
        self.ignored = 0
        self.numbers = count()
        self.by_descriptor: dict[int, CountedSocket] = {}
        self.listeners: dict[object, CountedSocket] = {}
        self.due: set[CountedSocket] = set()  # ends to which data is on its way
        self._connecting: set[CountedSocket] = set()
        self._unaccepted: dict[object, CountedSocket] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Count every socket created in this context."""
        made = type("CountedSocket", (CountedSocket,), {"network": self})
        with patch.object(socket, "socket", made):
            yield

    def connection_started(self, end: CountedSocket) -> None:
        """A client has begun to connect."""
        self._connecting.add(end)
        self._unaccepted[end.getsockname()] = end

    def connection_accepted(self, end: CountedSocket, address: object) -> None:
        """A server has accepted a connection."""
        end.peer = self._unaccepted.pop(address)
        end.peer.peer = end
        self._connecting.discard(end.peer)
        self.update_due(end)

    def socket_closed(self, end: CountedSocket) -> None:
        """One end was closed."""
        self.due.discard(end)
        self._connecting.discard(end)
        self.listeners = {name: each for name, each in self.listeners.items() if each is not end}
        self.update_due(end.peer)

    def update_due(self, end: CountedSocket | None) -> None:
        """Record whether data is on its way to this end."""
        if end is None or end.closed or end.peer is None:
            return
        if end.peer.finished or end.peer.sent > end.received:
            self.due.add(end)
        else:
            self.due.discard(end)

    def has_everything_arrived(
        self, ready: Mapping[int, int], waited_for: Mapping[Any, selectors.SelectorKey]
    ) -> bool:
        """Whether all data has arrived at the ends that somebody waits for.

        `ready` has the selector's events by descriptor.
        """
        return (
            all(_has_arrived(end, _WRITE, ready, waited_for) for end in self._connecting)
            and all(_has_arrived(end, _READ, ready, waited_for) and _is_readable(end) for end in self.due)
            and all(_has_arrived(end, _READ, ready, waited_for) for end in self._listeners_with_connections())
        )

    def _listeners_with_connections(self) -> Iterator[CountedSocket]:
        """The listeners with a connection to accept."""
        for end in self._unaccepted.values():
            listener = self.listeners.get(end.remote)
            if listener is not None and not end.closed:
                yield listener


def _has_arrived(
    end: CountedSocket,
    event: int,
    ready: Mapping[int, int],
    waited_for: Mapping[Any, selectors.SelectorKey],
) -> bool:
    """Whether the event has come, or nobody waits for it."""
    key = waited_for.get(end.fileno()) if end.fileno() >= 0 else None
    return key is None or not key.events & event or bool(ready.get(end.fileno(), 0) & event)


def _is_readable(end: CountedSocket) -> bool:
    if end.peer is None or end.peer.finished:
        return True
    return end.readable_bytes() >= min(end.peer.sent - end.received, READ_BYTES)
