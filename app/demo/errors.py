"""What ends the demo before it has a verdict."""

from __future__ import annotations


class DemoError(Exception):
    """The demo can't go on; `detail` is what helps to see why, such as the end of a log."""

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.detail = detail
