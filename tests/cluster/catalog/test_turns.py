"""Turns: one thread at a time for each key, and none for ever."""

from __future__ import annotations

import threading
import time

from aftermap.cluster.catalog.turns import Turns


def test_of_one_key_one_at_a_time_and_of_others_at_once() -> None:
    turns, inside, most = Turns(), {"a": 0, "b": 0}, {"a": 0, "b": 0}
    both = threading.Barrier(2, timeout=5)

    def work(key: str, meets: bool) -> None:
        with turns.of(key) as held:
            assert held
            inside[key] += 1
            most[key] = max(most[key], inside[key])
            if meets:
                both.wait()
            time.sleep(0.01)
            inside[key] -= 1

    threads = [threading.Thread(target=work, args=(key, n == 0)) for n in range(4) for key in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken
    assert most == {"a": 1, "b": 1}


def test_who_waits_too_long_is_told_and_leaves_nothing_behind() -> None:
    turns = Turns()
    with turns.of("a"), turns.of("a", 0.05) as held:
        assert not held
    with turns.of("a", 0.05) as held:
        assert held
