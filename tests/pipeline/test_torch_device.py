"""Devices by name, and the errors of CUDA as sentences."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.torch_device import cuda_errors_explained, default_device, out_of_memory, parse_device, require_gpu


def test_devices_are_parsed_and_must_exist() -> None:
    assert default_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    assert parse_device("cuda:1") == torch.device("cuda", 1)
    require_gpu(parse_device("cpu"))
    with pytest.raises(ConfigError, match=r"device: no such device .got gpu0, expected auto, cpu, cuda or cuda:0"):
        parse_device("gpu0")
    with pytest.raises(ConfigError, match=r"device: mps is not supported .got mps, expected auto.*set `device` to cpu"):
        parse_device("mps")
    with pytest.raises(ConfigError, match=r"device: this machine has no such GPU .got cuda:99.*set `device` to cpu"):
        require_gpu(torch.device("cuda:99"))


def test_a_full_memory_is_one_sentence() -> None:
    error = out_of_memory("batch_clips", 7, torch.device("cpu"), got="2 GB", expected="at most 1 GB", remedy="use 3")
    sentence = "batch_clips: 7 clips at once do not fit into the memory of cpu (got 2 GB, expected at most 1 GB); use 3"
    assert str(error) == sentence


def test_errors_that_are_not_cudas_pass() -> None:
    with pytest.raises(RuntimeError, match="the sizes differ"), cuda_errors_explained(torch.device("cuda")):
        raise RuntimeError("the sizes differ")
