"""bench/results/*.json as Markdown: `python bench/tables.py [bench ...]`, or `--write` into docs/*.md and README.md.

With `--write`, what stands between `<!-- bench: training -->` and `<!-- end -->` is replaced by the tables of
bench/results/training.json; `<!-- bench: training: Title -->` takes the one table of that title.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import measure

BLOCK = re.compile(r"(<!-- bench: (?P<name>\w+)(?:: (?P<title>[^\n]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)
Result = dict[str, Any]


def markdown(result: Result, only: str | None = None) -> str:
    """A line that names the state and the command, each table under its title, and the gates; or `only` one table."""
    chosen = result["tables"] if only is None else {only: result["tables"][only]}
    parts = [state(result)]
    parts += [f"{title}:\n\n{table(rows)}" if only is None else table(rows) for title, rows in chosen.items()]
    if only is None and result["gates"]:
        parts.append(table([gate(what, each) for what, each in result["gates"].items()]))
    if result.get("failed"):
        parts.append("\n".join(f"Failed: {what}: {why}" for what, why in result["failed"].items()))
    return "\n\n".join(parts) + "\n"


def state(result: Result) -> str:
    """The machine, precision, versions, date and commit, and the command."""
    at = result["state"]
    best = at["instructions"][0] if at["instructions"] else "no vector instructions known"
    facts = [
        *([at["device"]] if at["device"] else []),
        f"{at['processor']}, {at['cores']} cores, {best}",
        *([" and ".join(at["precision"])] if at["precision"] else []),
        f"torch {at['torch']}",
        at["date"],
        f"commit {at['commit']}",
    ]
    return f"`{result['command']}`: {'; '.join(facts)}."


def gate(what: str, each: Result) -> Result:
    limit = f"at least {each['at least']:g}" if "at least" in each else f"at most {each.get('at most', 0):g}"
    note = f" ({each['note']})" if "note" in each else ""
    return {
        "gate": what,
        "measured": each["measured"],
        "must be": limit + note,
        "met": "yes" if each["holds"] else "no",
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Columns in the order of their first appearance; nothing where a row has no value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)] + [[cell(row.get(name)) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def written(text: str, results: Path) -> str:
    """The text with every block made anew; a block whose result is not there stays as it is."""

    def block(match: re.Match[str]) -> str:
        path = results / f"{match['name']}.json"
        if not path.is_file():
            return match[0]
        return f"{match[1]}\n{markdown(json.loads(path.read_text()), match['title'])}\n{match[4]}"

    return BLOCK.sub(block, text)


def main() -> None:
    if sys.argv[1:] == ["--write"]:
        for path in [measure.REPOSITORY / "README.md", *sorted((measure.REPOSITORY / "docs").glob("*.md"))]:
            before = path.read_text()
            after = written(before, measure.RESULTS)
            if after != before:
                path.write_text(after)
                print(f"{path.relative_to(measure.REPOSITORY)} written")
        return
    for name in sys.argv[1:] or sorted(path.stem for path in measure.RESULTS.glob("*.json")):
        print(f"## {name}\n\n{markdown(json.loads((measure.RESULTS / f'{name}.json').read_text()))}")


if __name__ == "__main__":
    main()
