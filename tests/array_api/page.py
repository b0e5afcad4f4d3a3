"""The list in docs/tensorflow-namespace.md of what a tensor cannot do, written from the expected failures.

``python tests/array_api/page.py`` writes it; a test compares the two.
"""

from dataclasses import dataclass, field
from pathlib import Path

XFAILS = Path(__file__).parent / "xfails.txt"
PAGE = Path(__file__).parents[2] / "docs" / "tensorflow-namespace.md"
START, END = "<!-- written by tests/array_api/page.py -->\n", "<!-- end -->\n"


@dataclass
class Reason:
    """Why some tests fail, and which."""

    text: str
    tests: list[str] = field(default_factory=list)


def reasons(text: str) -> list[Reason]:
    """Read the expected failures: comments, and under each the tests that it explains."""
    found: list[Reason] = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        comment = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
        found.append(Reason(comment, [line for line in lines if not line.startswith("#")]))
    return found


def written(found: list[Reason]) -> str:
    """Return the list as Markdown."""
    count = sum(len(reason.tests) for reason in found)
    parts = [f"{count} tests fail on a tensor's account:\n"]
    for reason in found:
        tests = "".join(f"- `{test.removeprefix('array_api_tests/')}`\n" for test in reason.tests)
        parts.append(f"{reason.text}\n\n{tests}")
    return "\n".join(parts)


def main() -> None:
    """Write the list into the page."""
    before, rest = PAGE.read_text().split(START)
    _, after = rest.split(END)
    PAGE.write_text(before + START + "\n" + written(reasons(XFAILS.read_text())) + "\n" + END + after)


if __name__ == "__main__":
    main()
