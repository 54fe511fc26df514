"""The entry point of the program, as `allocsync` and as `python -m allocsync`.

The rule: until a command has been imported, Ctrl-C ends the process by the signal itself, at once and
without a message (a shell shows exit code 130). So no module that takes time to import is imported before
that is set up.

Left out: the time before Python reaches this module (some 10 ms), and Ctrl-C after that (`cli.root`).
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; `signal` itself takes 5 ms


def main() -> None:
    """Run the command line and exit."""
    # A parent may have the signal ignored, as a shell does for a command with `&`; that stays so.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from allocsync.cli.root import main as run  # noqa: PLC0415 - takes time: only after the signal is set up

    run()


if __name__ == "__main__":
    main()
