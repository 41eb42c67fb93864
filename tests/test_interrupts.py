import os
import signal
from threading import Thread

import pytest

from tracksets.interrupts import asked_to_stop


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_asks_and_the_second_stops():
    before = signal.getsignal(signal.SIGINT)
    said = []
    with asked_to_stop(lambda: said.append(1)) as asked:
        assert not asked()
        press()
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert said == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_nothing_changes():
    before = signal.getsignal(signal.SIGINT)
    found = []

    def work():
        with asked_to_stop() as asked:
            found.append((asked(), signal.getsignal(signal.SIGINT) is before))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, True)]
