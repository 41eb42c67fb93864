"""Ctrl-C as a wish to stop at the next good place; pressed again, it stops at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ("asked_to_stop",)


@contextmanager
def asked_to_stop(on_first: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C was pressed.

    Signals reach the main thread only; elsewhere nothing changes.

    Parameters
    ----------
    on_first
        Called when it is pressed for the first time.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            if callable(before):
                before(number, frame)
            else:
                raise KeyboardInterrupt
        pressed.set()
        on_first()

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
