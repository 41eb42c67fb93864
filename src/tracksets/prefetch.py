"""An iterator in; the same items out, made in a background thread a few steps ahead."""

from collections.abc import Generator, Iterable
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

__all__ = ("ahead",)

_Item = TypeVar("_Item")
_POLL = 0.1
"""Seconds after which the thread looks whether anyone still wants items."""


def ahead(items: Iterable[_Item], depth: int = 2) -> Generator[_Item, None, None]:
    """Yield the items, in order, while the next ones are made in a thread.

    What the thread raises is raised here, after the items before it. When the caller stops early,
    so does the thread.

    Parameters
    ----------
    items
        Iterated over in the thread only.
    depth
        Most finished items that wait; bounds the memory.
    """
    queue: Queue[tuple[bool, _Item | BaseException | None]] = Queue(depth)
    stop = Event()

    def put(entry: tuple[bool, _Item | BaseException | None]) -> bool:
        while not stop.is_set():
            with suppress(Full):
                queue.put(entry, timeout=_POLL)
                return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the caller
            put((False, error))

    thread = Thread(target=work, name="tracksets-ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = queue.get()
            if is_item:
                yield value  # type: ignore[misc]  # items may be anything, also None
            elif isinstance(value, BaseException):
                raise value
            else:
                return
    finally:
        stop.set()
        with suppress(Empty):
            queue.get_nowait()  # a thread that waits for a place gets one
        thread.join()
