"""Errors that are the user's to mend, and how command lines show them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake of the user: one line that says what was wrong, where, and what would be right."""


def cli(main: Callable[[], None]) -> None:
    """Run a command line's ``main``; a :class:`UserError` becomes one line and exit status 1.

    Anything else is a defect of this program and keeps its traceback.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader went away (``| head``): not an error, but nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
