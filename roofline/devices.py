"""What a GPU can do at most: peaks per pipe, bandwidth, cache, clocks, each with its source.

Contract: dense figures only (vendors print sparse ones twice as large). A peak is
SMs x operations per clock and SM x clock; `published` is the vendor's figure, and a test holds the
two within 3%. The same pipe can have a different rate for another accumulator, so a peak is found
by both. A device that is not here is an error, never a guess. These are ceilings from paper: a
ceiling measured in the same run takes precedence over them.

Sources, by key of `Device.source`:
  H100  NVIDIA H100 Tensor Core GPU Datasheet (sparse figures halved) and H100 Architecture
        whitepaper v1.04, tables 2 and 3: 132 SMs; boost 1830 MHz for the tensor pipes below FP64,
        1980 MHz otherwise
  H200  NVIDIA H200 Tensor Core GPU Datasheet: compute as H100 SXM, HBM3e at 4.8 TB/s. L2 as GH100
        (50 MB; drivers have been seen to report 60 MB: ask the device before relying on it)
  A100  NVIDIA A100 80GB Datasheet and A100 Architecture whitepaper v1.0, table 4
  4090  NVIDIA Ada GPU Architecture whitepaper v2.1, appendix A, table 6
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reference.arguments import check_text


@dataclass(frozen=True)
class Peak:
    """One pipe's dense ceiling. `published` in tera-operations per second (a fused
    multiply-add is two), `per_clock` in operations per clock and SM, `clock` in MHz."""

    pipe: str
    accumulator: str
    published: float
    per_clock: int
    clock: int

    @property
    def per_second(self) -> float:
        """Operations per second."""
        return self.published * 1e12

    def derived(self, sms: int) -> float:
        """Tera-operations per second from SMs x rate x clock."""
        return sms * self.per_clock * self.clock * 1e6 / 1e12


@dataclass(frozen=True)
class Device:
    """One GPU. `bandwidth` in bytes per second, `l2` in bytes."""

    name: str
    title: str
    source: str
    arch: str
    sms: int
    bandwidth: float
    l2: int
    peaks: tuple[Peak, ...]

    def peak(self, pipe: str, accumulator: str | None = None) -> Peak:
        """The ceiling of a pipe. Without an accumulator: the one listed first (the usual one).

        Raises ValueError that lists what the device has.
        """
        check_text("pipe", pipe)
        if accumulator is not None:
            check_text("accumulator", accumulator)
        for peak in self.peaks:
            if peak.pipe == pipe and accumulator in (None, peak.accumulator):
                return peak
        have = ", ".join(f"{peak.pipe} ({peak.accumulator})" for peak in self.peaks)
        wanted = pipe if accumulator is None else f"{pipe} ({accumulator})"
        name = "pipe" if accumulator is None else "pipe and accumulator"
        raise ValueError(f"{name}: got {wanted!r}; {self.name} has {have}")

    def ridge(self, pipe: str) -> float:
        """Operations per byte of DRAM traffic at which the pipe, not the memory, binds."""
        return self.peak(pipe).per_second / self.bandwidth


def _hopper() -> tuple[Peak, ...]:
    return (
        Peak("int8_tensor", "s32", 1979, 8192, 1830),
        Peak("fp8_tensor", "fp32", 1979, 8192, 1830),
        Peak("fp16_tensor", "fp32", 989.4, 4096, 1830),
        Peak("bf16_tensor", "fp32", 989.4, 4096, 1830),
        Peak("fp32", "fp32", 66.9, 256, 1980),
        Peak("int32", "s32", 33.5, 128, 1980),
    )


MB = 1 << 20

DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device("h200", "H200 SXM", "H200", "sm_90", 132, 4800e9, 50 * MB, _hopper()),
        Device("h100", "H100 SXM", "H100", "sm_90", 132, 3350e9, 50 * MB, _hopper()),
        Device(
            "a100",
            "A100 80GB SXM",
            "A100",
            "sm_80",
            108,
            2039e9,
            40 * MB,
            (
                Peak("int8_tensor", "s32", 624, 4096, 1410),
                Peak("fp16_tensor", "fp32", 312, 2048, 1410),
                Peak("bf16_tensor", "fp32", 312, 2048, 1410),
                Peak("int4_tensor", "s32", 1248, 8192, 1410),
                Peak("fp32", "fp32", 19.5, 128, 1410),
                Peak("int32", "s32", 19.5, 128, 1410),
            ),
        ),
        Device(
            "rtx4090",
            "RTX 4090",
            "4090",
            "sm_89",
            128,
            1008e9,
            72 * MB,
            (
                Peak("int8_tensor", "s32", 660.6, 2048, 2520),
                Peak("fp8_tensor", "fp32", 330.3, 1024, 2520),
                Peak("fp8_tensor", "fp16", 660.6, 2048, 2520),
                Peak("fp16_tensor", "fp32", 165.2, 512, 2520),
                Peak("fp16_tensor", "fp16", 330.3, 1024, 2520),
                Peak("bf16_tensor", "fp32", 165.2, 512, 2520),
                Peak("int4_tensor", "s32", 1321.2, 4096, 2520),
                Peak("fp32", "fp32", 82.6, 256, 2520),
                Peak("int32", "s32", 41.3, 128, 2520),
            ),
        ),
    )
}


def device(name: str) -> Device:
    """The device called `name`. Raises ValueError that lists the known ones."""
    if check_text("device", name) not in DEVICES:
        raise ValueError(f"device: got {name!r}; known: {', '.join(DEVICES)}")
    return DEVICES[name]
