"""The command `antiphon`, and `python -m antiphon`: a Ctrl-C is one line from the first import on."""

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from antiphon import cli

        return cli.main()
    except KeyboardInterrupt:
        from antiphon.base.errors import write_error

        write_error("stopped by Ctrl-C")
        return 130


if __name__ == "__main__":
    sys.exit(main())
