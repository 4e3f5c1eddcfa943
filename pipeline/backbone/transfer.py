"""Copies of arrays to a device and back that do not block the host while the device works.

In: numpy arrays, tensors on a device. Out: tensors there; a HostCopy, whose `wait` returns arrays. On CUDA both ways go
through pinned memory and return at once, so that the next batch can be launched while this one is computed; on a CPU
the copy is complete when the call returns. All work is queued on the device's current stream, in order. The source may
be overwritten as soon as a call has returned: an array by anyone, a tensor by work that is queued later.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor on the device."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device, copy=True)
    return tensor.pin_memory().to(device, non_blocking=True)  # torch keeps the pinned copy until the device has it


class HostCopy:
    """A copy of tensors of one device into host memory, begun when this is made."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        device = tensors[0].device
        self._copied: torch.cuda.Event | None = None
        if device.type != "cuda":
            self._arrays = tuple(np.array(tensor.numpy(), order="C") for tensor in tensors)
            return
        hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
        for host, tensor in zip(hosts, tensors, strict=True):
            host.copy_(tensor, non_blocking=True)
        with torch.cuda.device(device):  # else the event would wait for the first device
            self._copied = torch.cuda.Event(blocking=True)  # else waiting keeps a core busy, which could decode
            self._copied.record()
        self._arrays = tuple(host.numpy() for host in hosts)

    def wait(self) -> tuple[np.ndarray, ...]:
        """The tensors' values, as contiguous arrays."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._arrays
