"""The program, as `allocsync` and as `python -m allocsync`.

The rule: until a command has been imported, Ctrl-C ends the process as the signal ends any program: at once,
without a word, for a shell 130. So nothing stands above that which takes time to import.

Left out: what Python does before it comes here (some 10 ms), and Ctrl-C from then on (`cli`).
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; `signal` itself takes 5 ms


def main() -> None:
    """Run the command line and exit."""
    # Where the parent has it ignored, as a shell does for what runs with `&`, it stays so.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from allocsync.cli.root import main as run  # noqa: PLC0415 - the reason for all this

    run()


if __name__ == "__main__":
    main()
