"""Reads the text of a program compiled for a TPU or a GPU: what its operations move, and whose lines they are.

What is counted is memory traffic by the program's own shapes: each operation reads its operands and writes its results,
whole. On a TPU tiles are padded as the layout says, what lies in its fast memory (`S(1)`) is not counted, and the
compiler's own estimate of cycles stands beside. On a GPU every operation is a kernel; operands that a kernel reads in
part are counted whole as well, so that the sum is an upper limit.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_BYTES = {"pred": 1, "bf16": 2, "f16": 2}
_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\](?:\{([^}]*)\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*->.*\{\s*$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)")
# What moves nothing, or is the end of what was counted at its start.
_FREE = {
    "after-all", "all-gather-done", "all-reduce-done", "async-done", "async-update", "bitcast",
    "collective-permute-done", "constant", "copy-done", "get-tuple-element", "opt-barrier", "parameter",
    "partition-id", "recv-done", "send-done", "slice-done", "tuple",
}  # fmt: skip
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


class Operation(NamedTuple):
    """What the program does at one place, as often as its loops run.

    Attributes:
      kind: XLA's name for it; of a custom call the called one's.
      source: `file:line function` of the package's line that it comes from, or '' where none is named.
      moved: bytes.
      cycles: the compiler's estimate; 0 where it makes none.
      times: how often it runs.
    """

    kind: str
    source: str
    moved: int
    cycles: int
    times: int


class _Array(NamedTuple):
    padded: int
    counted: bool


class _Instruction(NamedTuple):
    name: str
    arrays: list[_Array]
    kind: str
    operands: list[str]
    attributes: str


def operations(text: str, package: str = "posmlp_jax") -> list[Operation]:
    """All of a program's operations that move something, in order.

    Args:
      text: `compiled.as_text()`.
      package: whose lines are sources, of all that an operation comes from the innermost.
    """
    return list(_operations(dict(_computations(text)), "ENTRY", 1, _sources(text, package)))


def _operations(
    computations: Mapping[str, list[_Instruction]], name: str, times: int, sources: Mapping[int, str]
) -> Iterator[Operation]:
    arrays: dict[str, list[_Array]] = {}
    for each in computations[name]:
        arrays[each.name] = each.arrays
        if each.kind in ("while", "call"):
            called = re.search(r"(?:body|to_apply)=%?([\w.\-]+)", each.attributes)[1]
            count = re.search(r'"known_trip_count":\{"n":"(\d+)"', each.attributes)
            yield from _operations(computations, called, times * (int(count[1]) if count else 1), sources)
            continue
        if each.kind in _FREE:
            continue
        read = [array for operand in each.operands for array in arrays.get(operand, [])]
        cycles = re.search(r'"estimated_cycles":"(\d+)"', each.attributes)
        target = re.search(r'custom_call_target="([^"]*)"', each.attributes)
        frame = re.search(r"stack_frame_id=(\d+)", each.attributes)
        yield Operation(
            kind=target[1] if target else each.kind,
            source=sources.get(int(frame[1]), "") if frame else "",
            moved=times * _moved(each, read),
            cycles=times * (int(cycles[1]) if cycles else 0),
            times=times,
        )


def _moved(instruction: _Instruction, read: list[_Array]) -> int:
    written = instruction.arrays
    match instruction.kind:
        case "copy-start":  # (destination, source, …): one is written, and as much is read of the other.
            return sum(array.padded for array in written[:2] if array.counted)
        case "slice-start":  # The smaller one of the two is the slice.
            return min(array.padded for array in written[:2])
        case "slice" | "dynamic-slice":
            return written[0].padded * (written[0].counted + any(array.counted for array in read[:1]))
    return sum(array.padded for array in [*written, *read] if array.counted)


def _computations(text: str) -> Iterator[tuple[str, list[_Instruction]]]:
    """Each computation's name, 'ENTRY' of the program's own, and its instructions."""
    current = None
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = "ENTRY" if head[1] else head[2], []
            yield current
        elif line.startswith("}"):
            current = None
        elif current and (found := _INSTRUCTION.match(line)):
            current[1].append(_instruction(found[1], found[2]))


def _instruction(name: str, rest: str) -> _Instruction:
    # The type, which is a tuple in parentheses or has no space, the kind, and its operands in parentheses.
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opening = rest.index("(", end)
    closing = _closing(rest, opening)
    return _Instruction(
        name=name,
        arrays=[_array(*found.groups()) for found in _ARRAY.finditer(rest[:end])],
        kind=rest[end:opening].strip(),
        operands=re.findall(r"%([\w.\-]+)", rest[opening:closing]),
        attributes=rest[closing:],
    )


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis at `opening` is closed."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.start()
    raise ValueError(f"a parenthesis is never closed in {text[opening:][:80]}")


def _array(kind: str, sizes: str, layout: str | None) -> _Array:
    """An array's bytes, its tiles padded, and whether they are in the device's main memory.

    A layout is `minor,…,major:T(tile)…S(space)`, of which tiles cover the most minor axes.
    """
    shape = [int(size) for size in sizes.split(",") if size]
    item = _BYTES.get(kind) or int(kind[1:]) // 8
    if tile := re.search(r"T\(([\d,]+)\)", layout or ""):
        order = [int(axis) for axis in layout.split(":")[0].split(",") if axis]
        shape = [shape[axis] for axis in reversed(order)]
        for place, side in enumerate(reversed([int(side) for side in tile[1].split(",")]), 1):
            if place <= len(shape):
                shape[-place] = -(-shape[-place] // side) * side
    return _Array(item * math.prod(shape), "S(" not in (layout or ""))


def _sources(text: str, package: str) -> dict[int, str]:
    """For each stack frame of the program's header the package's innermost line."""
    sections = {name: {} for name in ("FileNames", "FunctionNames", "FileLocations", "StackFrames")}
    section = {}
    for line in text.splitlines():
        if line in sections:
            section = sections[line]
        elif line.startswith(("%", "ENTRY")):
            break
        elif found := re.match(r"(\d+) (?:\"(.*)\"|\{(.*)\})$", line):
            # A name, or numbers by their names.
            fields = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", found[3] or "")}
            section[int(found[1])] = fields or found[2]
    files, functions, locations, frames = sections.values()

    def source(frame: int) -> str:
        while frame:
            location = locations[frames[frame]["file_location_id"]]
            file = files[location["file_name_id"]]
            if f"/{package}/" in file:
                function = functions[location["function_name_id"]].rsplit(".", 1)[-1]
                return f"{file.rsplit(f'/{package}/', 1)[1]}:{location['line']} {function}"
            # Parents count from 1 more: 0 and 1 are none.
            frame = max(frames[frame].get("parent_frame_id", 0) - 1, 0)
        return ""

    return {frame: source(frame) for frame in frames}
