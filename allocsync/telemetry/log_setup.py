"""Sets up the log: one line for each event, as JSON for programs or as columns for a terminal.

The rules: `event` is a fixed word that can be searched for. Times are RFC 3339 in UTC. Text from a server
or a file cannot control a terminal: control characters are escaped or replaced. If a line cannot be written
it is lost, and the daemon goes on. Nothing here is global: the logger is a value that writes to the stream
it was given.

Left out: which events are logged, and at which level (`telemetry.log_events`).
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from allocsync.journald import leads_to_journal, with_priority
from allocsync.model.cloud import NumberLiteral
from allocsync.model.times import WallTime

_FIRST_KEYS = ("ts", "level", "event", "reconcile", "allocation", "revision")


def configure(
    log_format: str, level: str, stream: TextIO, *, environ: Mapping[str, str], wall: Callable[[], WallTime]
) -> FilteringBoundLogger:
    """Build the logger.

    `log_format` is auto, console or json; auto is console on a terminal and json elsewhere. `wall` gives
    seconds since the epoch. Lines that go directly to the systemd journal begin with their priority in the
    form that it reads (`<4>`); console lines then have no time.
    """
    if log_format == "auto":
        log_format = "console" if stream.isatty() else "json"
    processors: list[Processor] = [structlog.stdlib.add_log_level]
    is_journal = leads_to_journal(stream, environ)
    if log_format == "json":
        processors += [_AddTime(wall), _order_keys, structlog.processors.JSONRenderer()]
    else:
        colours = stream.isatty() and not environ.get("NO_COLOR")
        renderer = structlog.dev.ConsoleRenderer(
            colors=colours, timestamp_key="ts", sort_keys=False, pad_event_to=0
        )
        processors += [] if is_journal else [_AddTime(wall)]
        processors += [_order_keys, _escape_all, renderer]
    if is_journal:
        processors.append(_add_priority)
    logger = structlog.wrap_logger(
        _LineWriter(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
    )
    return cast("FilteringBoundLogger", logger)


def rfc3339(at: WallTime) -> str:
    """Format a time as RFC 3339 in UTC, to the millisecond."""
    text = datetime.fromtimestamp(float(at), UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


class LibraryLogHandler(logging.Handler):
    """Writes the log records of libraries (asyncio, aiohttp) as lines of this log."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback if it has one."""
        fields: dict[str, str] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        self._logger.log(record.levelno, "library_message", **fields)


@contextmanager
def redirect_library_logs(logger: FilteringBoundLogger) -> Iterator[None]:
    """While the context lasts, write warnings and errors of asyncio and aiohttp to `logger` only."""
    handler = LibraryLogHandler(logger)
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


class _LineWriter:
    """Writes lines to a stream; a line that cannot be written is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # the reader has gone, or the disk is full

    debug = info = warning = error = critical = msg


class _AddTime:
    """A processor that adds the time."""

    def __init__(self, wall: Callable[[], WallTime]) -> None:
        self._wall = wall

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["ts"] = rfc3339(self._wall())
        return event


def _order_keys(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the keys that every line has first, and turn all values into plain ones."""
    ordered = {key: event[key] for key in _FIRST_KEYS if key in event} | dict(event)
    return {key: _as_plain(value) for key, value in ordered.items() if value is not None}


def _escape_all(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace control characters in every text; a traceback keeps its line breaks."""
    return {
        key: _escape(value, keep="\n" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _escape(text: str, *, keep: str) -> str:
    # Not `model.escaping`: the renderer shows texts with spaces by `repr`, which doubles the backslashes.
    return "".join(
        c if c.isprintable() or c in keep else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def _add_priority(_logger: WrappedLogger, method: str, line: object) -> str:
    return with_priority(method, str(line))


def _as_plain(value: object) -> object:
    """Turn any value that an event may hold into one that JSON can represent."""
    if isinstance(value, NumberLiteral):
        return value.text
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_plain(item) for item in value]
    return str(value)
