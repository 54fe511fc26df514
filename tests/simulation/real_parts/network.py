"""Loopback sockets that are counted, so that it is known what is on its way in the kernel.

The rules: the sockets are the kernel's own and carry every byte; what one end has sent or closed is due at
the other until it has taken it; a process whose gate is shut sends nothing any more and connects to nothing.

Left out: when to wait for what is due (`loop`), and everything but TCP in one process.
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
PLENTY_BYTES = 65_536  # a reader need not wait for more than this


class Gate:
    """What a process's connections go through. Shut it, and the kernel closes them all."""

    def __init__(self) -> None:
        self.open = True
        self.sockets: list[CountedSocket] = []

    def shut(self) -> None:
        """The process is dead."""
        self.open = False
        for each in self.sockets:
            if not each.closed:
                with suppress(OSError):  # not connected yet: it never will be
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
        """Take connections from now on."""
        super().listen(backlog)
        self.network.listeners[self.getsockname()] = self

    def connect(self, address: Any, /) -> None:  # noqa: ANN401 - that of a socket
        """Begin to connect."""
        self.gate, self.remote = GATE.get(), address
        if self.network.refuses or (self.gate is not None and not self.gate.open):
            self.network.refused += 1
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        if self.gate is not None:
            self.gate.sockets.append(self)
        try:
            super().connect(address)
        finally:
            self.network.connects(self)

    def accept(self) -> "tuple[CountedSocket, Any]":
        """Take one connection."""
        taken, address = super().accept()
        assert isinstance(taken, CountedSocket)
        self.network.accepted(taken, address)
        return taken, address

    def send(self, data: Any, flags: int = 0, /) -> int:  # noqa: ANN401 - that of a socket
        """Send some of it."""
        if self.gate is not None and not self.gate.open:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        sent = super().send(data, flags)
        self.sent += sent
        self.network.judge(self.peer)
        return sent

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Take what has come."""
        try:
            data = super().recv(size, flags)
        except BlockingIOError:
            raise
        except OSError:
            self.network.due.discard(self)
            raise
        self.received += len(data)
        if data:
            self.network.judge(self)
        else:
            self.network.due.discard(self)
        return data

    def shutdown(self, how: int, /) -> None:
        """End one direction or both."""
        super().shutdown(how)
        self.finished = True
        self.network.judge(self.peer)

    def close(self) -> None:
        """End it."""
        if not self.closed:
            self.closed = self.finished = True
            self.network.closes(self)
        super().close()

    def readable_bytes(self) -> int:
        """How many have come and were not taken."""
        number = array.array("i", [0])
        fcntl.ioctl(self.fileno(), termios.FIONREAD, number)
        return number[0]


class Network:
    """All sockets that are made while `in_use`. `refuses` is that nobody listens any more."""

    def __init__(self) -> None:
        self.refuses = False
        self.refused = 0
        self.numbers = count()
        self.by_descriptor: dict[int, CountedSocket] = {}
        self.listeners: dict[object, CountedSocket] = {}
        self.due: set[CountedSocket] = set()  # ends to which something is on its way
        self._connecting: set[CountedSocket] = set()
        self._unaccepted: dict[object, CountedSocket] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Count every socket."""
        made = type("CountedSocket", (CountedSocket,), {"network": self})
        with patch.object(socket, "socket", made):
            yield

    def connects(self, end: CountedSocket) -> None:
        """A client has begun to connect."""
        self._connecting.add(end)
        self._unaccepted[end.getsockname()] = end

    def accepted(self, end: CountedSocket, address: object) -> None:
        """A server has taken a connection."""
        end.peer = self._unaccepted.pop(address)
        end.peer.peer = end
        self._connecting.discard(end.peer)
        self.judge(end)

    def closes(self, end: CountedSocket) -> None:
        """One end is closed."""
        self.due.discard(end)
        self._connecting.discard(end)
        self.listeners = {name: each for name, each in self.listeners.items() if each is not end}
        self.judge(end.peer)

    def judge(self, end: CountedSocket | None) -> None:
        """Note whether something is on its way to this end."""
        if end is None or end.closed or end.peer is None:
            return
        if end.peer.finished or end.peer.sent > end.received:
            self.due.add(end)
        else:
            self.due.discard(end)

    def all_here(self, ready: Mapping[int, int], waited_for: Mapping[Any, selectors.SelectorKey]) -> bool:
        """Whether everything that is on its way to somebody who waits for it has come.

        `ready` has the events by descriptor.
        """
        return (
            all(_is_here(end, _WRITE, ready, waited_for) for end in self._connecting)
            and all(_is_here(end, _READ, ready, waited_for) and _is_whole(end) for end in self.due)
            and all(_is_here(end, _READ, ready, waited_for) for end in self._expecting())
        )

    def _expecting(self) -> Iterator[CountedSocket]:
        """The listeners to which somebody has connected."""
        for end in self._unaccepted.values():
            listener = self.listeners.get(end.remote)
            if listener is not None and not end.closed:
                yield listener


def _is_here(
    end: CountedSocket,
    event: int,
    ready: Mapping[int, int],
    waited_for: Mapping[Any, selectors.SelectorKey],
) -> bool:
    """Whether the event has come, or nobody waits for it."""
    key = waited_for.get(end.fileno()) if end.fileno() >= 0 else None
    return key is None or not key.events & event or bool(ready.get(end.fileno(), 0) & event)


def _is_whole(end: CountedSocket) -> bool:
    if end.peer is None or end.peer.finished:
        return True
    return end.readable_bytes() >= min(end.peer.sent - end.received, PLENTY_BYTES)
