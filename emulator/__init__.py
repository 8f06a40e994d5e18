"""Runs compiled PTX on the CPU, bit for bit, and watches memory and barriers.

    module = emulator.compile(ptx_text)
    stats = module.kernel("name").launch(grid, block, args)

See launch.py for the contract, memory.py for `empty`, faults.py for what an error says.
"""

from emulator.block_coverage import Coverage, coverage, coverage_reset
from emulator.faults import EmulatorError
from emulator.launch import Kernel, Module, SharedLimitError, compile, watch_races  # noqa: A004
from emulator.layout import Fault
from emulator.memory import empty, mark_written, written
from emulator.ptx import UnsupportedPTX
from emulator.stats import SourceLine, Stats

__all__ = [
    "Coverage",
    "EmulatorError",
    "Fault",
    "Kernel",
    "Module",
    "SharedLimitError",
    "SourceLine",
    "Stats",
    "UnsupportedPTX",
    "compile",
    "coverage",
    "coverage_reset",
    "empty",
    "mark_written",
    "watch_races",
    "written",
]
