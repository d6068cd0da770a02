"""The program of the child that compiles: IR in, machine code for this processor out.

    python -m gateway.hashing.compiler   prints {lanes: code} in MessagePack

Ends with an error where the code would need a linker, or does not hash as hashlib does.
"""

import hashlib
import sys

import llvmlite.binding as llvm
import msgspec

from gateway.hashing.machine_code import Function
from gateway.hashing.md5 import LANES, Md5
from gateway.hashing.md5_code import md5_code


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


def try_out(codes: dict[int, bytes]) -> None:
    """Run all. Raises ValueError if a lane is not what hashlib says."""
    md5 = Md5({lanes: Function(code) for lanes, code in codes.items()})
    for lanes in codes:
        streams = [bytes([lanes, lane]) * 1000 for lane in range(lanes)]
        if md5.whole(streams) != [hashlib.md5(s, usedforsecurity=False).digest() for s in streams]:
            raise ValueError(f"wrong with {lanes} lanes")


def main() -> None:
    """Compile, try, print."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    codes = {lanes: compiled(md5_code(lanes), cpu, features) for lanes in LANES}
    try_out(codes)
    sys.stdout.buffer.write(msgspec.msgpack.encode(codes))


if __name__ == "__main__":
    main()
