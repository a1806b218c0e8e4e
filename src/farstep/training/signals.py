"""Signals that ask training to save and stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """While its block runs, a stop signal is noted instead of obeyed; the second one interrupts.

    Outside the main thread signals are left as they are.

    Attributes:
        signal_number: the signal that came, if one did.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                number: signal.signal(number, self._note)
                for number in STOP_SIGNALS
                if signal.getsignal(number) != signal.SIG_IGN  # As nohup has SIGHUP ignored.
            }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number
