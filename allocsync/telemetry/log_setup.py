"""Log lines: one event, one line, JSON for machines and plain columns for a terminal.

The rules: `event` is a fixed word that can be searched for; times are RFC 3339 in UTC; what a server or a
file said is shown, never obeyed (control characters are escaped or replaced); a log that cannot be written
costs the line, not the daemon. Nothing here is global: the logger is a value, on the stream that is given.

Left out: which events there are and how loud each is (`log_events`).
"""

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from allocsync.model.cloud import NumberLiteral

_FIRST_KEYS = ("ts", "level", "event", "reconcile", "allocation", "revision")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog's


def configure(
    log_format: str, level: str, stream: TextIO, *, environ: Mapping[str, str], wall: Callable[[], float]
) -> FilteringBoundLogger:
    """Build the logger.

    `log_format` is auto, console or json; auto is console on a terminal and json elsewhere. Console lines
    that go straight to the systemd journal carry their level the way it reads it (`<4>`) and no time.
    """
    if log_format == "auto":
        log_format = "console" if stream.isatty() else "json"
    processors: list[Processor] = [structlog.stdlib.add_log_level]
    if log_format == "json":
        processors += [_Stamp(wall), _in_order, structlog.processors.JSONRenderer()]
    else:
        journal = _is_journal(stream, environ)
        colours = stream.isatty() and not environ.get("NO_COLOR")
        renderer = structlog.dev.ConsoleRenderer(
            colors=colours, timestamp_key="ts", sort_keys=False, pad_event_to=0
        )
        processors += [_in_order, _tame, renderer, _prefix] if journal else []
        processors += [] if journal else [_Stamp(wall), _in_order, _tame, renderer]
    logger = structlog.wrap_logger(
        _Lines(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
    )
    return cast("FilteringBoundLogger", logger)


def rfc3339(seconds: float) -> str:
    """A time since the epoch as people and programs read it: UTC, to the millisecond."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


class LibraryLines(logging.Handler):
    """Turns what libraries log (asyncio, aiohttp) into lines of ours."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a traceback goes with it."""
        fields: dict[str, str] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        self._logger.log(record.levelno, "library_message", **fields)


@contextmanager
def library_lines(logger: FilteringBoundLogger) -> Iterator[None]:
    """Have warnings and worse of asyncio and aiohttp written by `logger`, and nowhere else, meanwhile."""
    handler = LibraryLines(logger)
    libraries = [logging.getLogger(name) for name in ("asyncio", "aiohttp")]
    before = [library.propagate for library in libraries]
    for library in libraries:
        library.addHandler(handler)
        library.propagate = False
    try:
        yield
    finally:
        for library, propagates in zip(libraries, before, strict=True):
            library.removeHandler(handler)
            library.propagate = propagates


class _Lines:
    """Writes lines to a stream, whatever happens to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # the reader is gone or the disk is full

    debug = info = warning = error = critical = msg


class _Stamp:
    """Adds the time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["ts"] = rfc3339(self._wall())
        return event


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put what every line has first, and make plain values of the rest."""
    ordered = {key: event[key] for key in _FIRST_KEYS if key in event} | dict(event)
    return {key: _plain(value) for key, value in ordered.items() if value is not None}


def _tame(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave nothing in a text that a terminal would obey; a traceback keeps its lines."""
    return {
        key: _tamed(value, keep="\n" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _tamed(text: str, *, keep: str) -> str:
    # Not `model.escaping`: the renderer shows texts with spaces by `repr`, which doubles the backslashes.
    return "".join(
        c if c.isprintable() or c in keep else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def _prefix(_logger: WrappedLogger, method: str, line: object) -> str:
    return f"<{_PRIORITIES.get(method, 6)}>{line}"


def _plain(value: object) -> object:
    """What JSON can carry, of anything that an event may hold."""
    if isinstance(value, NumberLiteral):
        return value.text
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether this very stream is the journal: systemd names its device and inode."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
