from datetime import UTC, datetime, timedelta

import torch

from fednet.worker.circumstances import circumstances_of


def test_a_machine_is_looked_at() -> None:
    found = circumstances_of(torch.device("cpu"))
    assert abs(found.local_time - datetime.now(UTC)) < timedelta(minutes=1)
    assert found.local_time.tzinfo is not None, "and it is the machine's own hour"
    assert found.free_memory_bytes is not None and found.own_memory_share is not None
    assert 0 < found.own_memory_share < 1
    assert found.free_gpu_memory_bytes is None
