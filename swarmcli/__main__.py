"""Where the `swarm` command begins, also as `python -m swarmcli`.

The rest takes a tenth of a second to import: until then Ctrl-C must end the program too, without Python's traceback.
"""

import os
import signal
from types import FrameType
from typing import NoReturn


def _leave(_signum: int, _frame: FrameType | None) -> NoReturn:
    os._exit(130)


def main() -> NoReturn:
    """Run the command line of this process; never returns."""
    try:
        signal.signal(signal.SIGINT, _leave)
        from swarmcli.cli.main import main as run

        signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    main()
