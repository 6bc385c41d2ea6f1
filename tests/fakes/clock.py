"""A clock that a test moves. It never stands still, so that what comes later is dated later."""

from __future__ import annotations

import datetime as dt


class Clock:
    def __init__(self) -> None:
        self.now = dt.datetime(2026, 11, 28, 9, 0, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        self.now += dt.timedelta(microseconds=1)
        return self.now

    def add(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)
