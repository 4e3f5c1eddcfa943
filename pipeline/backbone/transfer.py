"""Arrays to a device and back, without holding up the host where the device works beside it.

In: numpy arrays, tensors on a device. Out: tensors there; a function that waits for what was asked of the device. On
CUDA both ways go through pinned memory and return at once, so that the next batch can be launched while this one is
computed; on a CPU all is done when the call returns. Everything is asked of the device's current stream, in order.
What is given may be overwritten as soon as a call has returned: an array by anybody, a tensor by what is asked next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor on the device."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device, copy=True)
    return tensor.pin_memory().to(device, non_blocking=True)  # torch keeps the pinned copy until the device has it


def to_host(tensors: Sequence[Tensor]) -> Callable[[], tuple[np.ndarray, ...]]:
    """Ask for tensors of one device; call the result to wait for their values, as contiguous arrays."""
    device = tensors[0].device
    if device.type != "cuda":
        arrays = tuple(np.array(tensor.numpy(), order="C") for tensor in tensors)
        return lambda: arrays
    hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for host, tensor in zip(hosts, tensors, strict=True):
        host.copy_(tensor, non_blocking=True)
    with torch.cuda.device(device):  # else the event would wait for the first device
        copied = torch.cuda.Event(blocking=True)  # else waiting keeps a core busy, which could decode
        copied.record()

    def wait() -> tuple[np.ndarray, ...]:
        copied.synchronize()
        return tuple(host.numpy() for host in hosts)

    return wait
