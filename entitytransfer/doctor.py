"""What is missing or broken in a dataset on disk, and what to do about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Level = Literal["ok", "note", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found by a dataset's function ``examine``.

    Attributes:
        level: "ok" and "note" need nothing to be done; with the other two, training or evaluation fails or is wrong.
        what: the finding in a few words.
        where: the file or folder that it is about.
        fix: what to do, one sentence; empty if there is nothing to do.
    """

    level: Level
    what: str
    where: Path | None = None
    fix: str = ""


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing is missing or broken."""
    return all(finding.level in {"ok", "note"} for finding in findings)


def as_lines(findings: Iterable[Finding]) -> list[str]:
    """What to print: a line for each finding, and one below it for what to do about it."""
    lines = []
    for finding in findings:
        place = "" if finding.where is None else f" ({finding.where})"
        lines.append(f"{finding.level:8}{finding.what}{place}")
        if finding.fix:
            lines.append(f"{'':8}> {finding.fix}")
    return lines


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs: ``{"healthy": bool, "findings": [{"level", "what", "where", "fix"}]}``."""
    entries = [
        {"level": f.level, "what": f.what, "where": None if f.where is None else str(f.where), "fix": f.fix}
        for f in findings
    ]
    return {"healthy": is_healthy(findings), "findings": entries}
