"""A function in LLVM IR, written instruction by instruction."""

from collections.abc import Sequence


class Instructions:
    """Methods write instructions and return the name of their value."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names = 0

    def let(self, instruction: str) -> str:
        """A new name for what the instruction yields."""
        self._names += 1
        self.lines.append(f"  %v{self._names} = {instruction}")
        return f"%v{self._names}"

    def at(self, pointer: str, item: str, index: int | str) -> str:
        """The address of an item behind a pointer."""
        return self.let(f"getelementptr {item}, ptr {pointer}, i64 {index}")

    def lane_pointers(self, lanes: int) -> tuple[list[str], list[str]]:
        """Where each lane's state and data are."""
        words = [self.at("%lane", "ptr", i) for i in range(2 * lanes)]
        pointers = [self.let(f"load ptr, ptr {word}") for word in words]
        return pointers[::2], pointers[1::2]

    def begin_loop(self, item: str, begin: dict[str, str]) -> str:
        """What follows is done for each block; its offset in the data.

        `begin`: what changes, before the first block; NAME.next is what it is for the next one.
        """
        self.lines += ["  br label %loop", "loop:", "  %n = phi i64 [0, %entry], [%n.next, %loop]"]
        for name, value in begin.items():
            self.lines.append(f"  %{name} = phi {item} [{value}, %entry], [%{name}.next, %loop]")
        return self.let("shl i64 %n, 6")

    def end_loop(self) -> None:
        """What follows is done once."""
        self.lines += [
            "  %n.next = add i64 %n, 1",
            "  %more = icmp ult i64 %n.next, %blocks",
            "  br i1 %more, label %loop, label %end",
            "end:",
        ]

    def module(self, declarations: Sequence[str]) -> str:
        """With the intrinsic functions that are called."""
        head = "define void @hash(ptr %lane, i64 %blocks, ptr %constants) nounwind {"
        return "\n".join([*declarations, head, "entry:", *self.lines, "  ret void", "}"])
