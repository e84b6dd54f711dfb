"""How a command ends: with an exit status and, where it failed, one sentence on the standard error."""

import contextlib
import os
import sys
from collections.abc import Callable

from nano_llm.errors import NanoLLMError
from nano_llm.files import explained
from nano_llm.interruption import Interrupted


def ended(carry_out: Callable[[], int]) -> int:
    """Carry out a command and return its exit status; nothing that it printed is lost without a word.

    Args:
        carry_out: Returns the exit status, or raises what the user can mend.

    Returns:
        Its status; that of its error; 130 after Ctrl-C, 143 after SIGTERM; 1 where the output or a file cannot be used.
    """
    status = 0
    try:
        try:
            status = carry_out()
        except NanoLLMError as error:
            status = tell(error)
        except SystemExit:
            _flush()
            raise
        _flush()
    except KeyboardInterrupt:
        return 130
    except Interrupted as interrupted:
        return interrupted.exit_status
    except BrokenPipeError:
        # Whoever read our output has gone, as with `| head`; nothing is left to be said.
        _silence()
    except OSError as error:
        _silence()
        return tell(explained(error))
    return status


def tell(error: NanoLLMError) -> int:
    """Print an error and return its exit status."""
    # Where the standard error is full too, the status alone tells.
    with contextlib.suppress(OSError):
        print(f"Error: {error}", file=sys.stderr, flush=True)
    return error.exit_status


def _flush() -> None:
    """Hand over what was printed: at the end of the process it would be too late to explain a failure."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _silence() -> None:
    """Drop what could not be printed, which Python would try again at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
