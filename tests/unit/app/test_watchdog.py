"""A loop that no longer runs is told from one that is idle and from a process that was stopped."""

from __future__ import annotations

from app.watchdog import PATIENCE_S, POLL_S, LoopWatch

POLLS = int(PATIENCE_S / POLL_S)


class Scene:
    def __init__(self) -> None:
        self.ends = 0
        self.watch = LoopWatch(self._stuck)
        self.watch.beat()

    def _stuck(self) -> None:
        self.ends += 1

    def polls(self, count: int) -> None:
        for _ in range(count):
            self.watch.poll()


def test_a_loop_that_misses_every_beat_for_so_long_ends_the_process() -> None:
    scene = Scene()
    scene.polls(POLLS)
    assert scene.ends == 0
    scene.polls(1)
    assert scene.ends == 1


def test_one_that_comes_back_in_time_begins_anew() -> None:
    scene = Scene()
    for _ in range(3):
        scene.polls(POLLS)
        scene.watch.beat()
    assert scene.ends == 0
