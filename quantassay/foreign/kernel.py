"""A user's CUDA C++ or PTX kernels as one kernel of an op.

Contract: `load(request)` compiles, checks everything that can be checked without running, and gives
a `reference.op.Kernel` whose function launches the entries one after another in the emulator. What
the request does not say is taken from the kernel's C++ parameters where they tell it: the type of
numbers, the input dtype, the output dtype. Raises UsageError, one line that says what was got and
what is allowed, followed by the compiler's log where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import emulator
from emulator.recording import Launch, emulator_options, record
from quantassay.errors import UsageError
from quantassay.foreign import binding, cuda_source, ptx_file
from quantassay.foreign.binding import LaunchError, Values, evaluated
from quantassay.foreign.grammar import Pointer
from quantassay.foreign.request import Plan, Request, defines_of, integers, op_of, plans
from quantassay.foreign.types import CPP_OF, DTYPE_OF, Parameter
from quantassay.frameworks.approximations import approximations
from quantassay.notes import note
from reference.numerics import DTYPES, dtype_name
from reference.op import Arg, Kernel, Op

_HOLE = re.compile(r"\{(\w+)\}")
_ARGUMENT = re.compile(r"(argument|buffers\[)(?: )?(\d+)\]? \(")
Choice = Mapping[str, str]  # "dtype" and the op's options -> one value each


@dataclass(frozen=True)
class Loaded:
    """One compilation: its kernels and their parameters, a pair per launch, and what is noted."""

    launches: tuple[tuple[emulator.Kernel, tuple[Parameter, ...]], ...]
    entries: tuple[str, ...]
    notes: tuple[str, ...]
    ptx: str


def load(request: Request) -> Kernel:
    """The kernel that a request describes. Raises UsageError."""
    op = op_of(request.op)
    spoken = op.options.get("dialect", ())
    for name in request.dialects:
        if name not in spoken:
            raise UsageError(f"--dialect: got {name!r}; {op.name} has: {', '.join(spoken)}")
    made = Foreign(request, op)
    dtypes, options = made.settle()
    wing = "ptx" if request.ptx else "cuda"
    return Kernel(op.name, wing, made.label, request.dialects, made, dtypes, options)


class Foreign:
    """The function of such a kernel: inputs in the op's order, options by keyword."""

    def __init__(self, request: Request, op: Op) -> None:
        self.request, self.op = request, op
        self.text = cuda_source.read(request.file, request.option)
        self.defines = defines_of(request)
        self.numbers = integers(self.defines)
        self.plans = plans(request, op, self.defines, self.text)
        self.holes = self._holes()
        self._loaded: dict[tuple[tuple[str, str], ...], Loaded] = {}

    def __call__(self, *inputs: Any, **options: str) -> tuple[Any, ...]:
        named = dict(zip((arg.name for arg in self.op.inputs), inputs, strict=True))
        chosen = {**options, "dtype": self._dtype(named)}
        loaded = self.loaded(chosen)
        for text in loaded.notes:
            note(text)
        approximations(loaded.ptx)  # notes them
        values = Values(self.op, named, options, self.numbers)
        for plan, (kernel, parameters), entry in zip(
            self.plans, loaded.launches, loaded.entries, strict=True
        ):
            try:
                self._launch(plan, kernel, parameters, values)
            except emulator.EmulatorError as error:
                raise _renamed(error, entry, plan, values) from None
        return values.results()

    @property
    def label(self) -> str:
        """The entries as they were asked for, or as the PTX names the only one. Once settled."""
        loaded = next(iter(self._loaded.values()))
        pairs = zip(self.plans, loaded.launches, strict=True)
        return "+".join(plan.entry or ptx_file.readable(one.name) for plan, (one, _) in pairs)

    def settle(self) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
        """The input dtypes and the option values that the kernel takes; () for all dtypes.

        Compiles and checks all of them.
        """
        choices = {"dtype": self._given_dtypes(), **self._given_options()}
        first = self.loaded({name: values[0] for name, values in choices.items() if values})
        for name, values in choices.items():
            if not values:
                choices[name] = self._told(name, first)
        for picked in product(*choices.values()):
            self._check(dict(zip(choices, picked, strict=True)))
        dtypes = choices.pop("dtype")
        return (dtypes if len(self.op.dtypes) > 1 else ()), tuple(choices.items())

    def loaded(self, choice: Choice) -> Loaded:
        """The compilation for one dtype and option each. Raises UsageError."""
        key = tuple((name, choice[name]) for name in self.holes)
        if key not in self._loaded:
            words = {name: CPP_OF.get(value, value) for name, value in key}
            self._loaded[key] = self._build(words)
        return self._loaded[key]

    def _holes(self) -> tuple[str, ...]:
        texts = [plan.entry for plan in self.plans] + list(self.defines.values())
        found = tuple(dict.fromkeys(name for text in texts for name in _HOLE.findall(text)))
        known = ("dtype", *(name for name in self.op.options if name != "dialect"))
        for name in found:
            if name not in known:
                allowed = ", ".join(f"{{{one}}}" for one in known)
                raise UsageError(f"--entry, --define: got {{{name}}}; allowed: {allowed}")
        return found

    def _build(self, words: Mapping[str, str]) -> Loaded:
        request = self.request
        entries = [_filled(plan.entry, words) for plan in self.plans]
        notes: tuple[str, ...] = ()
        codes: tuple[tuple[int, ...], ...] = ()
        ptx, names = self.text, tuple(entries)
        if not request.ptx:
            defines = tuple((name, _filled(text, words)) for name, text in self.defines.items())
            folders = tuple(str(folder) for folder in request.includes)
            source = cuda_source.Source(
                request.file,
                self.text,
                defines,
                folders,
                request.arch,
                request.fmad,
                request.fast_math,
            )
            built = cuda_source.build(source, entries)
            ptx, names, codes, notes = built.ptx, built.names, built.codes, built.notes
        where = str(request.file)
        module = ptx_file.load(ptx, where)
        launches = []
        for number, name in enumerate(names):
            found = ptx_file.kernel(module, ptx_file.entry(module, name, where), where)
            known = ptx_file.parameters(found)
            if codes:
                known = cuda_source.parameters(codes[number], [one.size for one in known])
            launches.append((found, known))
            pairs = ptx_file.fusable(module.parsed, found.name)
            notes += (ptx_file.fusable_note(pairs),) if pairs else ()
        for plan, (_, known), entry in zip(self.plans, launches, entries, strict=True):
            binding.check(entry or "the kernel", self.op, plan.items, known)
        return Loaded(tuple(launches), tuple(entries), notes, ptx)

    def _given_dtypes(self) -> tuple[str, ...]:
        given, known = self.request.dtypes, self.op.dtypes
        for name in given:
            if name not in known:
                raise UsageError(f"--dtype: got {name!r}; {self.op.name} has: {', '.join(known)}")
        if given or len(known) == 1:
            return given or known
        return known if "dtype" in self.holes else ()

    def _given_options(self) -> dict[str, tuple[str, ...]]:
        known = {name: values for name, values in self.op.options.items() if name != "dialect"}
        found: dict[str, tuple[str, ...]] = dict.fromkeys(known, ())
        for text in self.request.options:
            name, _, value = text.partition("=")
            if value not in known.get(name, ()):
                listed = "; ".join(f"{one}={'|'.join(vs)}" for one, vs in known.items()) or "none"
                raise UsageError(f"--option: got {text!r}; {self.op.name} has: {listed}")
            found[name] += (value,)
        for name in self.holes:
            if name in found and not found[name]:
                found[name] = known[name]
        return found

    def _told(self, name: str, loaded: Loaded) -> tuple[str, ...]:
        """What the kernel's C++ parameters say of the input dtype or of an option."""
        known = self.op.dtypes if name == "dtype" else self.op.options[name]
        args = self.op.inputs if name == "dtype" else self.op.outputs
        bound = [arg.name for arg in args if arg.dtypes == known]
        for arg, parameter in self._bound(loaded):
            told = DTYPE_OF.get(parameter.element)
            if arg.name in bound and told in known:
                return (told,)
        option = "--dtype" if name == "dtype" else f"--option {name}="
        what = f"the type of {bound[0]}" if bound else "the value that the kernel is written for"
        raise UsageError(f"{option}: say {what}; {self.op.name} has: {', '.join(known)}")

    def _bound(self, loaded: Loaded) -> Iterator[tuple[Arg, Parameter]]:
        """The op's arrays with the parameters that point to them."""
        for plan, (_, parameters) in zip(self.plans, loaded.launches, strict=True):
            for item, parameter in zip(plan.items, parameters, strict=True):
                if isinstance(item, Pointer):
                    yield binding.argument(self.op, item.name), parameter

    def _check(self, choice: Choice) -> None:
        """Whether the parameters fit a dtype and options that were asked for."""
        for arg, parameter in self._bound(self.loaded(choice)):
            told = DTYPE_OF.get(parameter.element, "")
            wanted = binding.dtype_of(self.op, arg, choice)
            if told in ("fp32", "fp16", "bf16") and told != wanted and wanted in DTYPES:
                raise UsageError(
                    f"--args: {arg.name} is {wanted}, and the kernel's parameter {parameter.words}"
                )

    def _dtype(self, inputs: Mapping[str, Any]) -> str:
        """The recipe's dtype, from the input that has it."""
        for arg in self.op.inputs:
            if arg.dtypes == self.op.dtypes and not arg.scalar:
                return str(dtype_name(inputs[arg.name].dtype))
        return self.op.dtypes[0]

    def _launch(
        self,
        plan: Plan,
        kernel: emulator.Kernel,
        parameters: Sequence[Parameter],
        values: Values,
    ) -> None:
        grid = _sides("--grid", plan.grid, values)
        block = _sides("--block", plan.block, values)
        shared = evaluated(plan.shared, values.names)
        pairs = zip(plan.items, parameters, strict=True)
        args = [values.value(item, parameter) for item, parameter in pairs]
        options = {**emulator_options(), "cooperative": self.request.cooperative}
        buffers = list(values.buffers.values())
        stats = kernel.launch(grid, block, args, shared_bytes=shared, buffers=buffers, **options)
        record(Launch(kernel.name, "foreign", _three(grid), _three(block), stats))


def _filled(text: str, words: Mapping[str, str]) -> str:
    return _HOLE.sub(lambda hole: words[hole[1]], text)


def _sides(option: str, sides: Sequence[Any], values: Values) -> tuple[int, ...]:
    found = tuple(evaluated(side, values.names) for side in sides)
    for side, size in zip(sides, found, strict=True):
        if size < 1:
            sizes = ", ".join(f"{name}={value}" for name, value in values.dims.items())
            raise LaunchError(f"{option}: {side.text!r} is {size} at {sizes}; allowed: from 1")
    return found


def _three(sides: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*sides, 1, 1)[:3]
    return x, y, z


def _renamed(
    error: emulator.EmulatorError, entry: str, plan: Plan, values: Values
) -> emulator.EmulatorError:
    """The finding with the user's names of the kernel and of its arguments."""
    inside = list(values.buffers)

    def name(match: re.Match[str]) -> str:
        number = int(match[2])
        if match[1] == "argument":
            return f"{binding.word(plan.items[number])}, argument {number} ("
        return f"{inside[number]} ("

    shown = entry or ptx_file.readable(error.kernel)
    words = str(error).replace(f"{error.kernel}: ", f"{shown}: ", 1)
    error.args = (_ARGUMENT.sub(name, words),)
    error.message = _ARGUMENT.sub(name, error.message)
    return error
