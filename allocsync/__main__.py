"""`python -m allocsync` is `allocsync`."""

from allocsync.cli import main

if __name__ == "__main__":
    main()
