"""The plain roofline against arithmetic done by hand."""

import numpy as np
import pytest

from reference.int8_gemm import GEMM
from reference.int8_quantize import PER_TOKEN
from roofline.devices import DEVICES, device
from roofline.model import FORMS, bound, from_counts, half_linear, in_sequence, linear_form

BIG = {"M": 4096, "N": 8192, "K": 8192}
ONE = {"M": 1, "N": 8192, "K": 8192}


def test_gemm_at_many_tokens_is_bound_by_the_tensor_cores():
    made = bound(GEMM, BIG, device("h200"))
    assert made.ceiling == "int8_tensor"
    assert made.seconds == pytest.approx(2 * 4096 * 8192 * 8192 / 1979e12)
    assert made.label == "predicted"


def test_gemm_at_one_token_is_bound_by_memory():
    made = bound(GEMM, ONE, device("h200"))
    assert made.ceiling == "memory"
    assert made.bytes == 8192 + 8192 * 8192 + 4 * 8192
    assert made.seconds == pytest.approx(made.bytes / 4800e9)


def test_quantization_pass_of_a_large_activation():
    """100.7 MB = 21 us on an H200, as PERFORMANCE.md works out (scales included here)."""
    made = bound(PER_TOKEN, {"M": 4096, "K": 8192}, device("h200"), {"x": "fp16"})
    assert made.bytes == 4096 * 8192 * 3 + 4 * 4096
    assert made.seconds * 1e6 == pytest.approx(21, abs=0.1)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("dims", [BIG, ONE])
def test_fewer_launches_are_never_slower(name, dims):
    times = [linear_form(form, dims, device(name)).seconds for form in FORMS]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("name", DEVICES)
def test_bounds_grow_with_every_size(name):
    for symbol in BIG:
        larger = {**BIG, symbol: 2 * BIG[symbol]}
        for form in FORMS:
            small = linear_form(form, BIG, device(name)).seconds
            assert linear_form(form, larger, device(name)).seconds > small


def test_unfused_linear_is_the_sum_of_its_three_launches():
    card = device("a100")
    made = linear_form("unfused", BIG, card)
    M, N, K = BIG.values()
    quantize, gemm = 3 * M * K + 4 * M, M * K + N * K + 4 * M * N
    epilogue = 4 * M * N + 4 * M + 4 * N + 2 * M * N
    assert made.bytes == quantize + gemm + epilogue
    by_hand = quantize / 2039e9 + 2 * M * N * K / 624e12 + epilogue / 2039e9
    assert made.seconds == pytest.approx(by_hand)
    assert made.ceiling == "int8_tensor"
    assert made.per_second("int8_tensor") == pytest.approx(2 * M * N * K / by_hand)


def test_w8a8_halves_the_bytes_of_decode():
    card = device("h200")
    ratio = half_linear(ONE, card).seconds / linear_form("fused", ONE, card).seconds
    assert ratio == pytest.approx(2, rel=0.01)


def test_bytes_are_those_of_real_arrays():
    a, b = np.zeros((3, 40), np.int8), np.zeros((5, 40), np.int8)
    made = bound(GEMM, {"M": 3, "N": 5, "K": 40}, device("h100"))
    assert made.bytes == a.nbytes + b.nbytes + np.zeros((3, 5), np.int32).nbytes


def test_errors_name_what_was_got():
    card = device("h200")
    with pytest.raises(ValueError, match="form: got 'magic'; allowed: unfused, fused, prologue"):
        linear_form("magic", BIG, card)
    with pytest.raises(ValueError, match="pipe: got 'int2_tensor'; h200 has"):
        from_counts(10, {"int2_tensor": 5}, card)
    with pytest.raises(ValueError, match=r"got 0 and \{\}; allowed: > 0"):
        from_counts(0, {}, card)
    with pytest.raises(ValueError, match="bounds: got 0"):
        in_sequence([])
    with pytest.raises(ValueError, match="bounds: got 2 of devices"):
        in_sequence([from_counts(1, {}, card), from_counts(1, {}, device("h100"))])
