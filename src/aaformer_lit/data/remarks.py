"""What is odd about a data set, said in one sentence each: how many, which, and what it does to the result."""

from __future__ import annotations

from dataclasses import dataclass

from aaformer_lit.utils.text import some


@dataclass(frozen=True, slots=True)
class Remark:
    """`says`: what was found and how often; `items`: which; `effect`: what it does to the result, and how to mend it."""

    says: str
    items: tuple[str, ...] = ()
    effect: str = ""

    def __str__(self) -> str:
        found = f"{self.says}: {some(self.items)}" if self.items else self.says
        return f"{found}. {self.effect}".rstrip()
