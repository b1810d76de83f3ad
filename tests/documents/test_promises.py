"""docs/promises.md: every test that it names exists, and every promise names one."""

import ast
import re

import pytest
import small

PAGE = small.REPOSITORY / "docs/promises.md"
ROWS = [
    line.split(" | ")
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "kept by" not in line and line.count(" | ") == 1
]


@pytest.mark.parametrize(("promise", "tests"), ROWS, ids=[promise[2:60] for promise, _ in ROWS])
def test_every_promise_names_tests_that_exist(promise: str, tests: str) -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", tests)
    assert named, f"{promise} names no test"
    for file, name in named:
        tree = ast.parse((small.REPOSITORY / file).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{file} has no {name}"
