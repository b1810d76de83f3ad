"""params.yaml and configs as nobody should write them: an error with the key, and never a traceback, hang or crash."""

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from hypothesis import given
from strategies import damaged

from xraylab import documents, files, template
from xraylab.errors import DataError, ParamsError
from xraylab.params import config

SHIPPED = files.read_yaml(template.file("params.yaml"))
CONFIG = {section: SHIPPED[section] for section in config.OVERRIDABLE} | {"pretrained_sha256": None}
DEEP = 100_000


def numbers(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of the numbers in a tree."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from numbers(value, (*path, key))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path


def replaced(path: tuple[Any, ...], value: Any) -> Any:
    tree = copy.deepcopy(SHIPPED)
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def unbounded(schema: Any, name: str) -> Iterator[str]:
    """Numbers of a JSON schema that have no least or no greatest value."""
    if isinstance(schema, list):
        for each in schema:
            yield from unbounded(each, name)
    elif isinstance(schema, dict):
        least, greatest = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
        numeric = schema.get("type") in ("integer", "number") and "enum" not in schema
        if numeric and not all(any(key in schema for key in keys) for keys in (least, greatest)):
            yield name
        for key, value in schema.items():
            yield from unbounded(value, f"{name}.{key}")


def test_every_number_has_bounds() -> None:
    assert list(unbounded(config.Params.model_json_schema(), "")) == []
    assert list(unbounded({"a": {"type": "number", "minimum": 0}}, "")) == [".a"]


@pytest.mark.parametrize(
    "value",
    [float("inf"), float("-inf"), float("nan"), 10**400, -(10**400), True, "1", [1]],
    ids=lambda value: repr(value)[:5],
)
def test_no_number_is_infinite_huge_or_of_another_type(value: Any) -> None:
    for path in numbers(SHIPPED):
        with pytest.raises(ParamsError) as refused:
            config.validate(replaced(path, value), "params.yaml")
        dotted = ".".join(str(part) for part in path)
        assert any(problem.startswith(dotted) for problem in refused.value.problems), (dotted, refused.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize(
    "key", [("loss", "options", "x"), ("experiments", "baseline", "loss", "options", "x"), ("search", "space", "x")]
)
def test_nor_where_any_value_may_stand(key: tuple[str, ...], number: float) -> None:
    tree = copy.deepcopy(SHIPPED)
    *parents, last = key
    node = tree
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = [1, {"deep": number}]
    with pytest.raises(ParamsError) as refused:
        config.validate(tree, "params.yaml")
    assert f"{'.'.join(key)}.1.deep: should be a finite number of at most 18 digits" in refused.value.problems


def write(folder: Path, content: bytes) -> Path:
    path = folder / "params.yaml"
    path.write_bytes(content)
    return path


BOMB = "a: &a [1, 1]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n" for before, name in pairwise("abcdefghijklmnopqrstuvwxyz")
)
BROKEN = {
    "flow": (b"a: " + b"[" * DEEP, "nested more than 100 deep, at line 1"),
    "mappings": (b"{a: " * DEEP, "nested more than 100 deep, at line 1"),
    "block": (b"- " * DEEP, "nested more than 100 deep, at line 1"),
    "alias of itself": (b"a: &a\n  b: *a", "the alias *a stands within what it stands for"),
    "aliases of aliases": (BOMB.encode(), "its aliases stand for more than 1,000,000 values"),
    "key twice": (b"study: 1\nstudy: 2", 'found duplicate key "study"'),
    "tag": (b"a: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
    "misfit of a tag": (b"a: !!bool x", "a value does not fit its tag"),
    "digits": (b"a: " + b"9" * 5000, "Exceeds the limit (4300 digits)"),
    "documents": (b"a: 1\n---\nb: 2", "but found another document"),
    "NUL": (b"a: \x00", "control characters are not allowed"),
    "UTF-16": ("a: 1".encode("utf-16"), "'utf-8' codec can't decode byte 0xff"),
    "half a character": (b"a: \xc3", "'utf-8' codec can't decode byte 0xc3"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_yaml_is_named_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as refused:
        config.read(path)
    assert str(refused.value).startswith(f"{path} cannot be read: ")
    assert reason in str(refused.value)


def test_yaml_that_is_too_long_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST", 1 << 20)
    with pytest.raises(DataError, match="it is longer than 1 million characters"):
        config.read(write(tmp_path, b"#" * (1 << 20) + b"\na: 1"))


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"3", b"text", b"\xef\xbb\xbf"])
def test_params_without_sections(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml holds no sections"):
        config.read(write(tmp_path, content))


def test_a_byte_order_mark_aliases_and_merge_keys_are_read(tmp_path: Path) -> None:
    content = "\ufeffa: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a"
    assert files.read_yaml(write(tmp_path, content.encode())) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}


def test_a_value_as_long_as_a_table_is_cut_in_the_message() -> None:
    with pytest.raises(ParamsError) as refused:
        config.validate(replaced(("train", "lr"), "x" * 1_000_000), "params.yaml")
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("text", ["", "null", "[]", "3"])
def test_a_config_edited_by_hand_is_no_mapping(text: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"baseline\.yaml cannot be used; `dvc repro configure` makes it anew"):
        config.read_config(path)


def test_a_config_edited_by_hand_names_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "baseline.yaml"
    files.write_yaml(CONFIG | {"train": CONFIG["train"] | {"lr": -1.0, "epoch": 3}}, path)
    with pytest.raises(ParamsError) as refused:
        config.read_config(path)
    assert "train.epoch: unknown key; did you mean train.epochs?" in refused.value.problems
    assert "train.lr: input should be greater than 0, got -1.0" in refused.value.problems


@given(damaged(CONFIG))
def test_whatever_stands_in_a_config_is_used_or_refused_in_a_sentence(tree: Any) -> None:
    with NamedTemporaryFile("w", suffix=".yaml") as file, suppress(ParamsError, DataError):
        json.dump(tree, file, default=str)  # which YAML can read
        file.flush()
        config.read_config(Path(file.name))


@given(damaged(SHIPPED))
def test_whatever_stands_in_params_is_used_or_refused_in_a_sentence(tree: Any) -> None:
    try:
        config.validate(tree, "params.yaml")
    except ParamsError as error:
        str(error).encode()
