"""Copies to a device and back hold the values of the moment of the call, on every available device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.backbone.transfer import HostCopy, to_device

DEVICES = [torch.device("cpu"), *(torch.device("cuda", number) for number in range(min(2, torch.cuda.device_count())))]


def numbers(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_views_arrive_whole(device: torch.device, dtype: type) -> None:
    """Every second column, axes in another order: neither lies in memory as it is read."""
    array = numbers(4, 6, 10, dtype=dtype)
    for view in (array, array[:, ::2, 1::3], array.transpose(2, 0, 1)):
        there = to_device(view, device)
        assert there.device == device
        (back,) = HostCopy([there]).wait()
        assert np.array_equal(back, view)
        assert back.dtype == view.dtype
    there = to_device(array, device)
    turned, every_other = HostCopy([there.permute(1, 2, 0), there[:, 1::2]]).wait()
    assert np.array_equal(turned, array.transpose(1, 2, 0))
    assert np.array_equal(every_other, array[:, 1::2])
    assert turned.flags.c_contiguous
    assert every_other.flags.c_contiguous


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_what_was_given_may_be_overwritten_at_once(device: torch.device) -> None:
    """Copying a batch that large would still be under way."""
    array = numbers(64, 1024, 256)
    kept = array.copy()
    there = to_device(array, device)
    array[:] = -1
    copy = HostCopy([there])
    there.zero_()
    again = HostCopy([there])
    assert np.array_equal(copy.wait()[0], kept)
    assert not again.wait()[0].any()


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_many_are_asked_for_before_one_is_waited_for(device: torch.device) -> None:
    arrays = [numbers(3, 5) + place for place in range(4)]
    copies = [HostCopy([to_device(array, device), to_device(-array, device)]) for array in arrays]
    for copy, array in reversed(list(zip(copies, arrays, strict=True))):
        plus, minus = copy.wait()
        assert np.array_equal(plus, array)
        assert np.array_equal(minus, -array)
