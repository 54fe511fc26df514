"""The errors that a user can meet, each with its exit code.

AllocsyncError                  1
├── DesiredError                1    the desired state files have errors; lists all of them
├── ApiError                    1    the Allocation API gave no usable answer to a command that needs one
│   └── BulkUnavailable         1    `GET /allocations` cannot be read, for now or at all
├── JournalUnavailable          1    the journal cannot be written for now, so no update may be sent
├── NotAwaitingApprovalError    1    no such revision awaits approval
├── DaemonError                 1    the running daemon gave no usable answer, or is not in sync in time
├── SettingsError              78    settings are wrong: name, value, where it came from, a hint
└── UsageError                 64    the command line is wrong

The rules: an error message says what happened, to which allocation or at which line, what that means and what
to do about it. Nothing that the Allocation API does to the daemon raises one of these, apart from
`BulkUnavailable`: API answers are values (`model.api_answers`).
"""

from dataclasses import dataclass

EXIT_FINE = 0
EXIT_ERROR = 1
EXIT_CHANGES = 2
EXIT_USAGE = 64
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class AllocsyncError(Exception):
    """An error that a user can act on; `str()` is the message shown."""

    exit_code = EXIT_ERROR


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One error in a file. `line` and `column` count from 1; `path` is the dotted path of keys, or empty."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """`file:line:column: path: message`, without the path if it is empty."""
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class DesiredError(AllocsyncError):
    """The desired state cannot be loaded. `problems` are all errors, sorted by file, line and column."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ApiError(AllocsyncError):
    """The Allocation API gave no usable answer."""


class BulkUnavailable(ApiError):  # noqa: N818 - an expected condition that the controller handles
    """`GET /allocations` gave no usable answer; `supported` is False if it is of no use.

    `status` is the HTTP status and `retry_after_seconds` the server's Retry-After, unclamped; both are None
    without an answer. `asked` is False if no request was made. "Of no use" means that the server has no such
    route, or that its list differed from single reads too often.
    """

    def __init__(
        self,
        reason: str,
        *,
        supported: bool,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        asked: bool = True,
    ) -> None:
        super().__init__(reason)
        self.supported = supported
        self.status = status
        self.asked = asked
        self.retry_after_seconds = retry_after_seconds


class JournalUnavailable(AllocsyncError):  # noqa: N818 - an expected condition that the controller handles
    """The journal cannot be written for now; `str()` is the reason."""


class NotAwaitingApprovalError(AllocsyncError):
    """The named revision does not await approval; `str()` says which revision does, if any."""


class DaemonError(AllocsyncError):
    """The daemon does not answer, does not know the allocation, or is not in sync within the time limit."""


class SettingsError(AllocsyncError):
    """The settings are wrong; `str()` has one line for each mistake."""

    exit_code = EXIT_CONFIGURATION


class UsageError(AllocsyncError):
    """The command line is wrong."""

    exit_code = EXIT_USAGE
