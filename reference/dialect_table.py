"""Every dialect as an entry of words: see dialects.py. What the words leave unsaid of a system, and
where its own code gives no fixed result, stands as a comment in its entry.
"""

from __future__ import annotations

from typing import Any

from reference.dialect_fields import Dialect

ALL = ("fp32", "fp16", "bf16")
# Of systems that only quantize here: the words of products are never read.
NO_PRODUCTS: dict[str, Any] = {"epilogue": "acc*sB*sA+bias", "k_overflow": "refuse"}

DIALECTS: dict[str, Dialect] = {
    d.name: d
    for d in (
        Dialect(
            name="ieee",
            title="IEEE: the textbook formula, every operation correctly rounded",
            source="quantassay; s = amax/127, q = clamp(RNE(x/s))",
            inputs=ALL,
            arithmetic="fp32",
            multiplier="x/s",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-127..127",
            zero="code0",
            nan="propagate",
            epilogue="acc*sB*sA+bias",
            k_overflow="refuse",
        ),
        Dialect(
            name="vllm",
            title="vLLM: dynamic_scaled_int8_quant and the CUTLASS scaled_mm epilogue",
            source="vllm csrc/quantization/w8a8/int8/scaled_quant.cu; "
            "csrc/cutlass_extensions/epilogue/scaled_mm_epilogues_c2x.hpp",
            inputs=ALL,
            arithmetic="fp32",
            multiplier="x*(127/amax)",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            zero="code0",
            nan="skip",
            epilogue="sA*(sB*acc) fma bias",
            k_overflow="wrap",
            azp_range="as is",
            zero_point="rne(qmin-min/s)",
            azp_sum="wrap",
            intermediate="input",
            group_epilogue="fma(acc*sA, sB, sum)",
            overrides=(
                (
                    "asymmetric",
                    (
                        ("multiplier", "x*(1/s)"),
                        ("static_multiplier", "x*(1/s)"),
                        ("zero", "unguarded"),
                    ),
                ),
                (
                    "group",
                    (
                        ("multiplier", "x/s"),
                        ("rounding", "truncate"),
                        ("nan_code", "low"),
                        ("floor", "1e-10"),
                    ),
                ),
            ),
        ),
        Dialect(
            name="article_cuda",
            title="The article's CUDA kernel: multiply by 1/s",
            source="seed article on dynamic quantization, kernel quantize_per_token_int8",
            inputs=ALL,
            arithmetic="fp32",
            multiplier="x*(1/s)",
            static_multiplier="x*(1/s)",
            rounding="rne",
            clamp="-128..127",
            zero="code0",
            nan="skip",
            epilogue="acc*sA*sB+bias",
            k_overflow="wrap",
        ),
        Dialect(
            name="article_torch",
            title="The article's torch formula: every operation in fp16",
            source="seed article on dynamic quantization, w8a8_per_token_per_channel",
            inputs=("fp16",),
            arithmetic="input",
            multiplier="x/s",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            zero="unguarded",
            nan="propagate",
            epilogue="acc*sA*sB+bias",
            k_overflow="refuse",
        ),
        Dialect(
            name="sglang",
            title="SGLang: Triton per_token_quant_int8; in groups sgl-kernel's CUDA kernel",
            # libdevice.round; no clamp: |x * (127/amax)| rounds to 127 at most. tl.max's answer to
            # a NaN is left open; the CUDA kernel's fmaxf skips it. In groups: the sm_90 build has
            # -use_fast_math. vLLM carries the Triton kernel too (quantization/utils/int8_utils.py).
            source="sglang python/sglang/srt/layers/quantization/int8_kernel.py; "
            "sgl-kernel/csrc/gemm/per_token_group_quant_8bit.cu, sgl-kernel/CMakeLists.txt",
            inputs=ALL,
            arithmetic="fp32",
            multiplier="x*(127/amax)",
            static_multiplier="x/s",
            rounding="half away",
            clamp="-128..127",
            zero="code0",
            nan="skip",
            floor="1e-10",
            division="div.full",
            **NO_PRODUCTS,
            overrides=(
                (
                    "group",
                    (
                        ("scale", "amax*(1/127)"),
                        ("rounding", "truncate"),
                        ("nan_code", "low"),
                        ("division", "div.approx"),
                    ),
                ),
            ),
        ),
        Dialect(
            name="bitsandbytes",
            title="bitsandbytes: int8_vectorwise_quant, threshold 0",
            # Gives out amax, not amax/127. No clamp: none is needed. A row of nothing but NaN has
            # amax -0 there (it starts as half(-FLT_MIN)), here +0.
            source="bitsandbytes csrc/kernels.cu, kInt8VectorQuant (commit 95f9af3)",
            inputs=("fp16",),
            arithmetic="fp32",
            multiplier="x*(127/amax)",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            zero="unguarded",
            nan="skip",
            stored="amax",
            division="div.approx",
            **NO_PRODUCTS,
        ),
        Dialect(
            name="torchao",
            title="torchao: Int8Tensor.from_hp, MappingType.SYMMETRIC",
            # choose_qparams_affine in x's dtype with scale_dtype fp32 and eps 2**-23, then
            # quantize_affine in fp32. As on the CPU: on a GPU eager torch divides by a Python
            # number by multiplying by its fp32 reciprocal (pytorch aten/src/ATen/native/cuda/
            # BinaryDivTrueKernel.cu). In fp16 and bf16 that gives the same scale for every amax;
            # in fp32 another one for three of four.
            source="torchao 0.18 quantization/quantize_/workflows/int8/int8_tensor.py; "
            "quantization/quant_primitives.py",
            inputs=ALL,
            arithmetic="input scale",
            scale="amax/127.5",
            least_scale="2^-23",
            multiplier="x*(1/s)",
            static_multiplier="x*(1/s)",
            rounding="rne",
            clamp="-128..127",
            zero="unguarded",
            nan="propagate",
            **NO_PRODUCTS,
            overrides=(
                (
                    "asymmetric",
                    (
                        ("zero_point", "clamp(qmin-rne(min/s))"),
                        ("azp_nan_code", "zero"),
                        ("azp_difference", "output"),
                    ),
                ),
            ),
        ),
        Dialect(
            name="torchao_no_clipping",
            title="torchao: IntxUnpackedToInt8Tensor, MappingType.SYMMETRIC_NO_CLIPPING_ERR",
            # choose_qparams_affine and quantize_affine with their defaults: all in x's dtype.
            source="torchao 0.18 quantization/quant_primitives.py; "
            "quantization/quantize_/workflows/intx/intx_unpacked_to_int8_tensor.py",
            inputs=ALL,
            arithmetic="input",
            scale="max(-min/128,max/127)",
            least_scale="smallest normal",
            multiplier="x*(1/s)",
            static_multiplier="x*(1/s)",
            rounding="rne",
            clamp="-128..127",
            zero="unguarded",
            nan="propagate",
            **NO_PRODUCTS,
        ),
        Dialect(
            name="compressed_tensors",
            title="compressed-tensors: calculate_qparams and quantize, symmetric",
            source="compressed-tensors 0.20 quantization/utils/helpers.py; "
            "quantization/lifecycle/forward_helpers.py",
            inputs=ALL,
            arithmetic="input",
            scale="amax/127.5",
            least_scale="eps where 0",
            multiplier="x/s",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            zero="unguarded",
            nan="propagate",
            **NO_PRODUCTS,
            overrides=(
                (
                    "asymmetric",
                    (
                        ("zero_point", "clamp(rne(qmin-min/s)), fp32 per tensor"),
                        ("azp_sum", "before rounding"),
                        ("azp_nan_code", "zero"),
                    ),
                ),
            ),
        ),
        Dialect(
            name="pytorch",
            title="PyTorch: MinMaxObserver (symmetric, qint8), quantize_per_tensor, _per_channel",
            # As on the CPU, except that quantize_per_tensor gives a NaN there 127, not 0. On a GPU
            # amax is multiplied by 1/127.5 (see torchao), x divided by s in double precision, and
            # a NaN has code -128 (aten/src/ATen/native/quantized/cuda/AffineQuantizer.cu).
            source="torch 2.13 ao/quantization/observer.py; "
            "aten/src/ATen/native/quantized/AffineQuantizerBase.cpp",
            inputs=("fp32",),
            arithmetic="fp32",
            scale="amax/127.5",
            least_scale="2^-23",
            multiplier="x*(1/s)",
            static_multiplier="x*(1/s)",
            rounding="rne",
            clamp="-128..127",
            zero="unguarded",
            nan="propagate",
            **NO_PRODUCTS,
            overrides=(
                (
                    "asymmetric",
                    (
                        ("zero_point", "clamp(qmin-rne(min/s))"),
                        ("azp_sum", "fma before rounding"),
                        ("azp_nan_zero_point", "clamp(qmin+2**31)"),
                        ("azp_nan_code", "high"),
                    ),
                ),
                (
                    "asymmetric_channel",
                    (
                        ("azp_sum", "before rounding"),
                        ("azp_nan_code", "zero"),
                    ),
                ),
            ),
        ),
        Dialect(
            name="onnx",
            title="ONNX: QuantizeLinear as onnxruntime's CPU provider runs it",
            # maxps gives a NaN the lowest code.
            source="onnxruntime core/mlas/lib/quantize.cpp, MlasQuantizeLinear",
            inputs=("fp32",),
            arithmetic="fp32",
            multiplier="x/s",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            nan_code="low",
            zero="unguarded",
            nan="propagate",
            **NO_PRODUCTS,
            overrides=(
                (
                    "asymmetric",
                    (
                        ("nan", "skip"),
                        ("least_scale", "1 where empty"),
                        ("azp_nan_zero_point", "qmax"),
                        ("azp_nan_code", "low"),
                    ),
                ),
            ),
        ),
        Dialect(
            name="modelopt",
            title="NVIDIA ModelOpt: fake_tensor_quant, and the scale and weights that it exports",
            # The CUDA kernel. tensor_quant.py's _tensor_quant, for the CPU, gives codes 0 where
            # amax is 2**-24 as well. It stops at a NaN in amax; here the codes are 0.
            source="Model-Optimizer (commit a2fbac7) modelopt/torch/kernels/quantization/gemm/"
            "tensor_quant_gpu.cu; modelopt/torch/export/quant_utils.py",
            inputs=ALL,
            arithmetic="fp32",
            multiplier="x*(127/amax)",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            zero="code0 below 2^-24",
            nan="propagate",
            **NO_PRODUCTS,
        ),
        Dialect(
            name="gguf",
            title="GGUF Q8_0, in groups of any size (Q8_0's own is 32)",
            # As gguf-py, which is bit-exact with C; C's MAX leaves open what becomes of a NaN. The
            # code of an infinite quotient (1/s of a scale below 2**-128) is open in C, here 127.
            source="llama.cpp ggml/src/ggml-quants.c, quantize_row_q8_0_ref; "
            "gguf-py gguf/quants.py, Q8_0",
            inputs=ALL,
            arithmetic="fp32",
            multiplier="x*(1/s)",
            static_multiplier="x*(1/s)",
            rounding="half away",
            clamp="-128..127",
            zero="code0",
            nan="propagate",
            stored="fp16 scale",
            **NO_PRODUCTS,
        ),
        Dialect(
            name="smoothquant",
            title="SmoothQuant: fake_quant.py, in x's dtype",
            # As on the CPU: a GPU's div_(127) multiplies by 1/127 (see torchao: the same in fp16
            # and bf16, not in fp32). The source has no clamp and stores no codes: where a scale is
            # subnormal, quotients of up to 190 occur there; here they are clamped.
            source="smoothquant (commit c61476d) smoothquant/fake_quant.py",
            inputs=ALL,
            arithmetic="input",
            multiplier="x/s",
            static_multiplier="x/s",
            rounding="rne",
            clamp="-128..127",
            zero="unguarded",
            nan="propagate",
            floor="1e-5",
            **NO_PRODUCTS,
        ),
    )
}
