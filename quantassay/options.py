"""The options of `quantassay check`, in the groups that its help shows.

Contract: each is an Annotated type; cli.py has the defaults. Texts say what is allowed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quantassay import console

WHICH, OWN, INPUTS, OUTPUT = "Which kernels", "Your own CUDA or PTX", "Inputs", "Output"


def _option(panel: str, *names: str, metavar: str, help: str, **more: Any) -> Any:  # noqa: A002
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **more)


Ops = Annotated[
    list[str] | None,
    _option(WHICH, "--op", metavar="OP", help="Only this op, such as int8.gemm. Repeatable."),
]
Wings = Annotated[
    list[str] | None,
    _option(WHICH, "--wing", metavar="WING", help="Only this wing: cupy, numba. Repeatable."),
]
Dialects = Annotated[
    list[str] | None,
    _option(
        WHICH,
        "--dialect",
        metavar="DIALECT",
        help="Only this dialect: ieee, vllm, ... Repeatable.",
    ),
]
File = Annotated[
    Path | None,
    _option(
        WHICH,
        "--kernels",
        metavar="FILE.py",
        help="A Python file whose @implements functions are checked, in place of the wings' "
        "(name a wing as well to check both).",
    ),
]
Function = Annotated[
    str | None,
    _option(
        WHICH,
        "--function",
        metavar="NAME",
        help="Of the file of --kernels this function as it is: Triton, Numba, torch or NumPy.",
    ),
]
Framework = Annotated[
    str | None,
    _option(
        WHICH,
        "--framework",
        metavar="NAME",
        help="What the function is: numba, numpy, torch or triton (seen from it if not given).",
    ),
]
Cu = Annotated[
    Path | None,
    _option(OWN, "--cu", metavar="FILE.cu", help="CUDA C++, compiled as nvcc would by default."),
]
Ptx = Annotated[Path | None, _option(OWN, "--ptx", metavar="FILE.ptx", help="PTX, as it is.")]
Entry = Annotated[
    list[str] | None,
    _option(
        OWN,
        "--entry",
        metavar="NAME",
        help="The kernel: quantize, or ns::quantize<float, 256>; the file's only one if not given. "
        "Repeated: launched one after another, each with its own --grid, --block and --args.",
    ),
]
Grid = Annotated[
    list[str] | None,
    _option(
        OWN, "--grid", metavar="FORMULAS", help='Blocks: "M", "cdiv(N, 128), M", "(K + 63) / 64".'
    ),
]
Block = Annotated[
    list[str] | None,
    _option(OWN, "--block", metavar="FORMULAS", help='Threads of a block: "256", "32, 8".'),
]
Args = Annotated[
    list[str] | None,
    _option(
        OWN,
        "--args",
        metavar="LIST",
        help='The parameters in order: "x, codes, scales, M, K". The op\'s inputs, outputs and '
        "sizes by name; bias? (null where absent), codes=0 (zeroed first), sum=residual (in "
        "place), K:i64, 1e-5:f32, null, tmp:f32[M*8] (scratch), {x, M} (a struct).",
    ),
]
Shared = Annotated[
    list[str] | None,
    _option(OWN, "--shared", metavar="BYTES", help='Dynamic shared memory: "4096", "K * 4".'),
]
Cooperative = Annotated[
    bool,
    typer.Option(
        "--cooperative", help="All blocks run at once (grid barriers).", rich_help_panel=OWN
    ),
]
Dtypes = Annotated[
    list[str] | None,
    _option(
        OWN,
        "--dtype",
        metavar="DTYPE",
        help="Input dtypes that the kernel takes: fp32, fp16, bf16 (as its C++ type says if not "
        "given). {dtype} in --entry and --define stands for each one's C++ type. Repeatable.",
    ),
]
OutDtypes = Annotated[
    list[str] | None,
    _option(
        OWN, "--out-dtype", metavar="DTYPE", help="The same for outputs of several. Repeatable."
    ),
]
Options = Annotated[
    list[str] | None,
    _option(
        OWN,
        "--option",
        metavar="NAME=VALUE",
        help="Another option of the op: code_dtype=u8, form=tanh. Repeatable.",
    ),
]
Multiples = Annotated[
    list[str] | None,
    _option(
        OWN,
        "--multiple",
        metavar="SIZE=N",
        help="The kernel is for sizes that are multiples: K=16. Repeatable.",
    ),
]
Aligned = Annotated[
    bool,
    typer.Option(
        "--aligned",
        help="The kernel is for inputs that start at a 16-byte boundary: no slices of others.",
        rich_help_panel=OWN,
    ),
]
Defines = Annotated[
    list[str] | None,
    _option(
        OWN,
        "--define",
        "-D",
        metavar="NAME=VALUE",
        help="A macro; formulas know integer ones. Repeatable.",
    ),
]
Includes = Annotated[
    list[Path] | None,
    _option(OWN, "--include", "-I", metavar="FOLDER", help="Where to find headers. Repeatable."),
]
Arch = Annotated[str, _option(OWN, "--arch", metavar="ARCH", help="sm_80, sm_90, ...")]
Fmad = Annotated[
    bool,
    typer.Option(
        "--fmad/--no-fmad",
        help="Products and sums contracted to FMAs, as nvcc does by default.",
        rich_help_panel=OWN,
    ),
]
FastMath = Annotated[
    bool,
    typer.Option(
        "--fast-math",
        help="As nvcc -use_fast_math: subnormals flushed, divisions and functions approximate.",
        rich_help_panel=OWN,
    ),
]
Device = Annotated[
    str,
    _option(
        INPUTS, "--device", metavar="DEVICE", help="auto (a GPU if one is usable), gpu or emulator."
    ),
]
Examples = Annotated[
    int,
    _option(INPUTS, "--examples", metavar="N", min=0, help="Random inputs after the hostile ones."),
]
Seed = Annotated[
    int,
    _option(
        INPUTS,
        "--seed",
        metavar="N",
        min=0,
        help="Seed of the random inputs and of the search.",
    ),
]
Sweep = Annotated[
    bool,
    typer.Option(
        "--sweep",
        help="Also every batch of 1 to 33 tokens at served hidden sizes.",
        rich_help_panel=INPUTS,
    ),
]
Workers = Annotated[
    int, _option(INPUTS, "--workers", metavar="N", min=0, help="Processes; 0: a core each.")
]
Json = Annotated[str | None, _option(OUTPUT, "--json", metavar="[FILE]", help=console.JSON_HELP)]
