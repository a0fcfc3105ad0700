"""What is odd about a data set, said in one sentence each: how many, which, and what it does to the result."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


def unread_columns(columns: Sequence[str], read: Collection[str]) -> Remark | None:
    """Of a table without cameras: a column called camera, say. Without it the results are others, and look better."""
    unread = tuple(column for column in columns if column not in read)
    if not unread or "camid" in columns:
        return None
    return Remark(
        "no column camid, so no camera rule applies; columns that are not read",
        unread,
        "If one of them names the camera, call it camid.",
    )
