"""Looks at a worker's machine at one moment: its clock, and what memory is free; changes nothing."""

from __future__ import annotations

from datetime import datetime

import torch

from fednet import memory
from fednet.worker.consent import Circumstances


def circumstances_of(device: torch.device) -> Circumstances:
    """Return what this machine is like now; memory that PyTorch keeps unused on a GPU counts as free."""
    resident, total = memory.resident_bytes(), memory.total_bytes()
    return Circumstances(
        local_time=datetime.now().astimezone(),
        free_memory_bytes=memory.available_bytes(),
        own_memory_share=resident / total if resident is not None and total else None,
        free_gpu_memory_bytes=_free_on(device) if device.type == "cuda" else None,
    )


def _free_on(device: torch.device) -> int:
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused
