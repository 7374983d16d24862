import os
import time

import pytest

from fednet.bench.processor import ProcessorWatch, processor_s


def test_a_process_that_computes_is_told_from_one_that_is_gone() -> None:
    before = processor_s(os.getpid())
    assert before is not None
    while time.process_time() < before + 0.1:
        pass
    after = processor_s(os.getpid())
    assert after is not None
    assert after == pytest.approx(time.process_time(), abs=0.05)
    assert processor_s(2**22 + 1) is None  # beyond the largest id that Linux gives


def test_a_watch_keeps_what_each_process_was_last_seen_with() -> None:
    with ProcessorWatch({"this": os.getpid, "unknown": lambda: None}) as watch:
        time.process_time()
    assert set(watch.seconds) == {"this"}
