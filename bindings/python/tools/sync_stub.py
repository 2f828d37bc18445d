"""Makes the types of the client that blocks from those of the other one, so that they are never
two lists: prints `annulet/sync.pyi`, or with `--write` writes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "python" / "annulet"
STUB = PACKAGE / "sync.pyi"


def blocking(text: str) -> str:
    """The types of calls that return when they are done."""
    text = re.sub(r"\nclass Connecting.*?(?=\nclass )", "", text, flags=re.DOTALL)
    text = text.replace(") -> Connecting: ...", ") -> Client: ...")
    # `_Call[...]` is what is awaited; its brackets nest.
    while (start := text.find("-> _Call[")) >= 0:
        depth, end = 1, start + len("-> _Call[")
        while depth:
            depth += {"[": 1, "]": -1}.get(text[end], 0)
            end += 1
        result = text[start + len("-> _Call[") : end - 1]
        text = f"{text[:start]}-> {result}{text[end:]}"
    text = re.sub(r"_Maybe\[(_Value(?: \| Change)?)\]", r"\1", text)
    for line in (
        r"from \. import sync as sync\n",
        r"_T = TypeVar.*\n",
        r"_Call: TypeAlias.*\n",
        r"_Maybe: TypeAlias.*\n",
        r'    "Connecting",\n',
        r'    "sync",\n',
    ):
        text = re.sub(line, "", text)
    text = re.sub(r"import Awaitable, Callable, Coroutine, Generator,", "import Callable,", text)
    text = text.replace("async def ", "def ")
    for name in ("iter", "enter", "exit"):
        text = text.replace(f"__a{name}__", f"__{name}__")
    text = text.replace("__anext__", "__next__")
    return "# Made by tools/sync_stub.py from __init__.pyi.\n" + text


def main() -> None:
    made = blocking((PACKAGE / "__init__.pyi").read_text())
    if sys.argv[1:] == ["--write"]:
        STUB.write_text(made)
    else:
        print(made, end="")


if __name__ == "__main__":
    main()
