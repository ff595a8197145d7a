"""What the text of a compiled program says: kernels, copies, gathers, collectives and their bytes.

An instruction that moves or computes something is a kernel: a fusion is one, whatever is inside of
it. Numbers that a TPU's scalar unit computes beside them are none. Those of branches and called
computations count where they are called, those of a loop once.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

WIDTHS = {"f64": 8, "s64": 8, "u64": 8, "f32": 4, "s32": 4, "u32": 4, "f16": 2, "bf16": 2}
WIDTHS |= {"s16": 2, "u16": 2, "s8": 1, "u8": 1, "pred": 1}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# Instructions that only name, reshape or order what is there, and the second halves of pairs.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"}
FREE |= {"call", "async-start", "async-update", "async-done", "after-all", "add-dependency"}
FREE |= {"copy-done", "partition-id", "replica-id", "opt-barrier", "domain"}
FREE |= {f"{kind}-done" for kind in COLLECTIVES} | {"slice-done", "iota"}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][a-z\-]*)\((.*)$")
_CALLED = re.compile(
    r"(?:condition|body|to_apply|calls|branch_computations|called_computations|"
    r"true_computation|false_computation)=(?:\{([^}]*)\}|%?([\w.\-]+))"
)


class Instruction(NamedTuple):
    """One line of a program: `%name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    rest: str

    def called(self, attribute: str = "") -> list[str]:
        """The computations that it names, of one attribute or of all."""
        found = [f for f in _CALLED.finditer(self.rest) if f[0].startswith(attribute)]
        names = [name for f in found for name in (f[1] or f[2]).split(",")]
        return [name.strip().lstrip("%") for name in names]

    @property
    def scalar(self) -> bool:
        """Whether it computes a single number outside of a fusion."""
        return one_number(self.shape) and self.opcode not in ("fusion", "custom-call")

    @property
    def operands(self) -> list[str]:
        """Names of its operands."""
        depth, end = 1, len(self.rest)
        for i, letter in enumerate(self.rest):
            depth += (letter == "(") - (letter == ")")
            if depth == 0:
                end = i
                break
        return re.findall(r"%([\w.\-]+)", self.rest[:end])


class Program:
    """A program's computations by name."""

    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        current: list[Instruction] = []
        for line in text.splitlines():
            if line[:1] not in ("", " ", "}") and line.rstrip().endswith("{"):
                head = line.removeprefix("ENTRY ")
                name = re.match(r"%?([\w.\-]+)", head)
                if name and not line.startswith("HloModule"):
                    current = self.computations.setdefault(name[1], [])
                    self.entry = name[1] if line.startswith("ENTRY") else self.entry
            elif found := _INSTRUCTION.match(line):
                current.append(Instruction(*found.groups()))

    def kernels(self, name: str, loops: bool = False) -> Iterator[tuple[Instruction, int]]:
        """The kernels of a computation, each with the bytes of its operands and results.

        Args:
          loops: those in the bodies of its loops as well.
        """
        sizes = {i.name: size_of(i.shape) for i in self.computations[name]}
        for one in self.computations[name]:
            if one.opcode not in FREE and not one.scalar:
                yield one, sizes[one.name] + sum(sizes.get(o, 0) for o in one.operands)
            elif one.opcode == "while":
                for body in one.called("body") if loops else ():
                    yield from self.kernels(body, loops)
            elif one.opcode in ("call", "conditional", "async-start"):
                for called in one.called():
                    yield from self.kernels(called, loops)

    def loop(self) -> str | None:
        """The body of the outer loop with most kernels."""
        bodies = [
            body
            for instructions in self.computations.values()
            for one in instructions
            if one.opcode == "while"
            for body in one.called("body")
        ]
        return max(bodies, key=lambda body: len(list(self.kernels(body))), default=None)


def one_number(shape: str) -> bool:
    """Whether a result is a single number."""
    return re.match(r"\w+\[(1(,1)*)?\]", shape) is not None


def size_of(shape: str) -> int:
    """Bytes of an instruction's result, of all parts of a tuple."""
    return sum(
        WIDTHS[kind] * math.prod(map(int, filter(None, sides.split(","))))
        for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", shape)
        if kind in WIDTHS
    )


def facts(text: str, large: int = 1 << 20) -> dict[str, Any]:
    """Counts of a program.

    Args:
      text: of the compiled module.
      large: bytes from which a gather or scatter counts as one of features.
    """
    program = Program(text)
    entry = list(program.kernels(program.entry))
    everything = list(program.kernels(program.entry, loops=True))
    body = program.loop()
    loop = list(program.kernels(body)) if body else []
    indexed = [
        one
        for instructions in program.computations.values()
        for one in instructions
        if one.opcode in ("gather", "scatter")
    ]
    count, size = Counter(), Counter()
    for one, _ in everything:
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            count[kind] += 1
            size[kind] += size_of(one.shape)
    return {
        "kernels": len(entry),
        "loop_kernels": len(loop),
        "operand_bytes": sum(size for _, size in entry),
        "loop_operand_bytes": sum(size for _, size in loop),
        "gathers": sum(one.opcode == "gather" for one in indexed),
        "scatters": sum(one.opcode == "scatter" for one in indexed),
        "large_gathers_scatters": sum(size_of(one.shape) >= large for one in indexed),
        "copies": sum(one.opcode.startswith("copy") for one, _ in everything),
        "loop_copies": [size_of(one.shape) for one, _ in loop if one.opcode.startswith("copy")],
        "estimated_cycles": sum(cycles_of(one) for one, _ in entry),
        "loop_cycles": sum(cycles_of(one) for one, _ in loop),
        "collectives": {kind: {"count": count[kind], "bytes": size[kind]} for kind in count},
    }


def cycles_of(one: Instruction) -> int:
    """The TPU compiler's own estimate of an instruction's time; 0 where there is none."""
    found = re.search(r'"estimated_cycles":"(\d+)"', one.rest)
    return int(found[1]) if found and int(found[1]) < 1 << 50 else 0
