"""The device table: every figure against SMs x rate x clock, unknown devices refused."""

import pytest

from roofline.devices import DEVICES, device

PEAKS = [(one, peak) for one in DEVICES.values() for peak in one.peaks]


@pytest.mark.parametrize(
    ("one", "peak"), PEAKS, ids=[f"{d.name}-{p.pipe}-{p.accumulator}" for d, p in PEAKS]
)
def test_published_peak_is_sms_times_rate_times_clock(one, peak):
    assert peak.published == pytest.approx(peak.derived(one.sms), rel=0.03)


def test_the_four_devices_are_there():
    assert set(DEVICES) == {"h200", "h100", "a100", "rtx4090"}


@pytest.mark.parametrize(
    ("name", "ratio"), [("h200", 206), ("h100", 295), ("a100", 153), ("rtx4090", 328)]
)
def test_weight_bound_batch_is_where_it_is_known_to_be(name, ratio):
    """M* of W8A8: each weight byte is 2 operations per token."""
    assert device(name).ridge("int8_tensor") / 2 == pytest.approx(ratio, rel=0.01)


def test_int8_peaks_are_dense_not_sparse():
    for one in DEVICES.values():
        fp16 = one.peak("fp16_tensor", "fp32")
        ratio = one.peak("int8_tensor").published / fp16.published
        assert ratio == pytest.approx(4 if one.name == "rtx4090" else 2, rel=0.01)


def test_accumulator_chooses_the_rate():
    card = device("rtx4090")
    assert card.peak("fp16_tensor", "fp16").published == 330.3
    assert card.peak("fp16_tensor", "fp32").published == 165.2
    assert card.peak("fp16_tensor") == card.peak("fp16_tensor", "fp32")


def test_unknown_device_lists_the_known():
    with pytest.raises(ValueError, match=r"device: got 'b300'; known: h200, h100, a100, rtx4090"):
        device("b300")


def test_unknown_pipe_lists_what_the_device_has():
    with pytest.raises(ValueError, match=r"pipe: got 'fp8_tensor'; a100 has int8_tensor \(s32\)"):
        device("a100").peak("fp8_tensor")
    with pytest.raises(ValueError, match=r"got 'int8_tensor \(fp32\)'"):
        device("a100").peak("int8_tensor", "fp32")
