"""The errors that a user can meet, each with its exit code and, where there is one, the next thing to do.

AllocsyncError                  1
├── DesiredError                1    the files of the desired state are wrong: every problem at once
├── ApiError                    1    the Allocation API gave no usable answer to a command that needs one
│   └── BulkUnavailable         1    `GET /allocations` cannot be used; reads go one by one
├── JournalUnavailable          1    the journal cannot be written for now, so nothing may be sent
├── NotHeldError                1    no such generation is held, so that it cannot be approved
├── DaemonError                 1    the running daemon cannot say, or is not where it was waited for
├── SettingsError              78    the settings are wrong: name, value, where it came from, a hint
└── UsageError                 64    the command line is wrong

The rule: an error says what happened, to which allocation or line, what it means and what to do. No class
here is raised for what a remote server does to the daemon: that is an outcome, and outcomes are values.
"""

from dataclasses import dataclass

EXIT_FINE = 0
EXIT_ERROR = 1
EXIT_CHANGES = 2
EXIT_USAGE = 64
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130  # as a shell sees an end by SIGINT


class AllocsyncError(Exception):
    """Something a user can act on; `str()` is what the user reads."""

    exit_code = EXIT_ERROR


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a file, at a 1-based line and column."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """`file:line:column: path: message`, the path left out when it is empty."""
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class DesiredError(AllocsyncError):
    """The desired state cannot be loaded; every problem is listed, sorted by place."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ApiError(AllocsyncError):
    """The Allocation API gave no usable answer."""


class BulkUnavailable(ApiError):  # noqa: N818 - a finding that the loop acts on, not an accident
    """`GET /allocations` gave no usable answer; `supported` is False where the server has no such route.

    `status` and `retry_after_seconds` are what it answered, if it did; `asked` is False where it was not.
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


class JournalUnavailable(AllocsyncError):  # noqa: N818 - a finding that the loop acts on, not an accident
    """The journal cannot be written for now; `str()` is why."""


class NotHeldError(AllocsyncError):
    """No such generation is held: `str()` says which one is."""


class DaemonError(AllocsyncError):
    """The running daemon does not answer, knows no such allocation, or is not yet in sync."""


class SettingsError(AllocsyncError):
    """The settings are wrong; one line a problem."""

    exit_code = EXIT_CONFIGURATION


class UsageError(AllocsyncError):
    """The command line is wrong."""

    exit_code = EXIT_USAGE
