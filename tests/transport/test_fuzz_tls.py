from pathlib import Path

from tests.transport.fuzz_tls import fuzz


async def test_a_live_coordinator_outlives_damaged_frames(tmp_path: Path) -> None:
    toll = await fuzz(tmp_path, frames=2000, connections=40, seed=7)
    assert toll.frames >= 2000
    assert toll.connections >= 40
    assert toll.dropped > 10
