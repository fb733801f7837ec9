"""What all scripts share: an error that the user can mend is told in its own words, without a traceback."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[], None]) -> None:
    """Call a script's `main`; end with status 2 and one message where this package refused its input.

    So it is with a folder that may not be written. An error raised anywhere else is a fault to be reported and keeps
    its traceback; `HF_SER_TRACEBACK=1` keeps all.
    """
    try:
        main()
    except (ValueError, FileNotFoundError, FileExistsError, PermissionError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        package = Path(__file__).parent
        ours = package in raised_in.parents or package.with_name("scripts") in raised_in.parents
        if not (ours or isinstance(error, PermissionError)) or os.environ.get("HF_SER_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
