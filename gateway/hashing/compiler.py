"""The program of the child that compiles: IR in, machine code for this processor out.

    python -m gateway.hashing.compiler   prints {hash: {lanes: code}} in MessagePack

Hashes whose instructions the processor has not are left out. Ends with an error where code would
need a linker, or does not hash as hashlib does.
"""

import hashlib
import sys

import llvmlite.binding as llvm
import msgspec

from gateway.hashing.blocks import RECIPES, Hash
from gateway.hashing.machine_code import Function


def compiled(source: str, cpu: str, features: str = "", triple: str = "") -> bytes:
    """The code of a module's only function. Raises ValueError if it refers to other places."""
    triple = triple or llvm.get_process_triple()
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(source)
    module.triple, module.data_layout = triple, str(machine.target_data)
    module.verify()
    file = llvm.ObjectFileRef.from_data(machine.emit_object(module))
    sections = {bytes(section.name() or b""): section.data() for section in file.sections()}
    if elsewhere := [name for name in sections if name.startswith((b".rel", b".rodata"))]:
        raise ValueError(f"code that needs a linker: {elsewhere}")
    return bytes(sections[b".text"])


def compiled_here() -> dict[str, dict[int, bytes]]:
    """All that this processor can run."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, has = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
    features = has.flatten()
    return {
        name: {lanes: compiled(recipe.code(lanes), cpu, features) for lanes in recipe.lanes}
        for name, recipe in RECIPES.items()
        if not recipe.needs or has.get(recipe.needs)
    }


def try_out(name: str, codes: dict[int, bytes]) -> None:
    """Run all. Raises ValueError if a lane is not what hashlib says."""
    tried = Hash(name, {lanes: Function(code) for lanes, code in codes.items()})
    for lanes in codes:
        streams = [bytes([lanes, lane]) * 1000 for lane in range(lanes)]
        expected = [hashlib.new(name, s, usedforsecurity=False).digest() for s in streams]
        if tried.whole(streams) != expected:
            raise ValueError(f"{name} is wrong with {lanes} lanes")


def main() -> None:
    """Compile, try, print."""
    codes = compiled_here()
    for name, by_lanes in codes.items():
        try_out(name, by_lanes)
    sys.stdout.buffer.write(msgspec.msgpack.encode(codes))


if __name__ == "__main__":
    main()
