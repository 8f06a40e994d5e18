"""INT8 GEMM with packed weights, for few tokens: weights go from memory straight to registers.

Contract: gemm_packed(a, packed, ...) equals int8.gemm_dequant(a, w_codes, ...) bit for bit, where
packed = int8.pack(w_codes). What packed holds beyond K does not count. Sums are exact; K and the
epilogue as in int8_gemm.py. N is 8 times packed's first axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import CORE, Dialect
from reference.int8_gemm import Codes, hostile_gemm, scaled
from reference.int8_pack import CHUNK, PANEL, PIECE, pack, unpack
from reference.numerics import Float32, int_gemm, round_to
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import FLOATS, check_array, check_gemm_vectors, check_out_dtype


def check_gemm_packed(
    a: Any, packed: Any, a_scales: Any, b_scales: Any, bias: Any, dialect_name: str, out_dtype: str
) -> Dialect:
    """a: s8 (M, K); packed: s8 (P, ceil(K / 64), 512); a_scales: fp32 (M,) or (1,); b_scales: fp32
    (8 P,) or (1,); bias: fp32 (8 P,) or None.
    """
    rows, depth = check_array("a", a, ("s8",), 2)
    panels, chunks, piece = check_array("packed", packed, ("s8",), 3)
    wanted = -(-depth // CHUNK)
    if (chunks, piece) != (wanted, PIECE):
        raise ValueError(
            f"packed: got shape {(panels, chunks, piece)}; allowed with K = {depth}: "
            f"(N / {PANEL}, {wanted}, {PIECE}), as int8.pack makes it"
        )
    columns = panels * PANEL
    spoken = check_gemm_vectors(rows, columns, depth, a_scales, b_scales, bias, dialect_name)
    check_out_dtype(out_dtype)
    return spoken


def gemm_packed(
    a: Codes,
    packed: Codes,
    a_scales: Float32,
    b_scales: Float32,
    bias: Float32 | None = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """a: s8 (M, K); packed: s8 (P, ceil(K / 64), 512); a_scales: fp32 (M,) or (1,); b_scales: fp32
    (8 P,) or (1,); bias: fp32 (8 P,) or None. Returns out_dtype (M, 8 P).

    Raises TypeError or ValueError naming the argument.
    """
    spoken = check_gemm_packed(a, packed, a_scales, b_scales, bias, dialect, out_dtype)
    acc = int_gemm(a, unpack(packed, a.shape[1]))
    return round_to(scaled(acc, a_scales, b_scales, bias, spoken), out_dtype)


def _build(made: Recipe) -> dict[str, Any]:
    M, N, K = made.dim("M"), PANEL * made.dim("P"), made.dim("K")
    rng = np.random.default_rng(made.seed)
    return {
        "a": recipes.codes(made, M, K, 1),
        "packed": pack(recipes.codes(made, N, K, 2)),
        "a_scales": recipes.scales(made, 1 if made.seed % 5 == 2 else M, 3),
        "b_scales": recipes.scales(made, 1 if made.seed % 7 == 3 else N, 4),
        "bias": rng.standard_normal(N).astype(np.float32) if made.seed % 3 else None,
    }


KINDS = (*recipes.CODE_KINDS, *recipes.SCALE_KINDS)
GEMM_PACKED = register(
    Op(
        name="int8.gemm_packed",
        oracle=gemm_packed,
        contract="int8.gemm_dequant with weights from int8.pack, bit for bit",
        inputs=(
            Arg("a", ("M", "K"), ("s8",)),
            Arg("packed", ("P", "(K+63)//64", PIECE), ("s8",)),
            Arg("a_scales", ("M",), ("fp32",), broadcast=True),
            Arg("b_scales", ("8*P",), ("fp32",), broadcast=True),
            Arg("bias", ("8*P",), ("fp32",), optional=True),
        ),
        outputs=(Arg("out", ("M", "8*P"), FLOATS),),
        options={"dialect": CORE, "out_dtype": FLOATS},
        work={"int8_tensor": "16*M*P*K", "fp32": "24*M*P"},
        build=_build,
        kinds=KINDS,
        hostile=tuple(
            recipe(m.kind, seed=m.seed, M=m.dim("M"), P=1 + m.dim("N") // 16, K=m.dim("K"))
            for m in hostile_gemm(KINDS)
        ),
        dims=("M", "P", "K"),
        takes=("codes", "packed", "scales", "w_scales", "bias"),
        gives=("out",),
    )
)
