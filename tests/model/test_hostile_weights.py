"""Files of weights that are damaged, hold more than tensors, or would take much more memory than their size."""

import io
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from xraylab.errors import WeightsError
from xraylab.model import pickle_reader, unpickling, weights


def test_nobody_is_advised_to_let_a_pickle_run_code(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(WeightsError) as caught:
        weights.read_tree(path)
    assert str(caught.value) == (
        f"{path} is not a whole .safetensors or .pth file of weights: it is damaged, or holds more than tensors "
        "(`xraylab weights convert` reads whole pickled networks)"
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_anywhere_is_an_error_of_ours(zipped: bool, tmp_path: Path) -> None:
    written = io.BytesIO()
    torch.save({"a": torch.arange(9.0)}, written, _use_new_zipfile_serialization=zipped)
    whole = written.getvalue()
    for at in range(0, len(whole), 13):
        (tmp_path / "x.pth").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with suppress(WeightsError):
            weights.read_tree(tmp_path / "x.pth")


def deflated(path: Path, content: object) -> None:
    """As torch.save writes it, its members compressed."""
    written = io.BytesIO()
    torch.save(content, written)
    with zipfile.ZipFile(written) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))


def test_compressed_members_are_not_inflated_without_limit(tmp_path: Path) -> None:
    deflated(tmp_path / "x.pth", {"a": torch.zeros(5_000_000)})
    assert (tmp_path / "x.pth").stat().st_size < 100_000
    with pytest.raises(WeightsError, match="it inflates to more than 4 times its size"):
        weights.read_tree(tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="cannot be converted: it inflates to much more than its size"):
        unpickling.convert(tmp_path / "x.pth")
    assert not (tmp_path / "x.safetensors").exists()


def converted(content: object) -> str:
    written = io.BytesIO()
    torch.save(content, written)
    return pickle_reader.convert(written, io.BytesIO())


def test_views_of_one_storage_are_not_written_without_limit() -> None:
    one = torch.zeros(1)
    assert converted({"a": one.expand(10**9)}) == "its tensors are much larger than the file"
    many = torch.zeros(10_000)
    assert converted({str(number): many for number in range(200)}) == "its tensors are much larger than the file"
    assert converted({"weight": many, "tied": many}) == ""


def test_mappings_in_one_another_twice_each_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "MOST_OBJECTS", 10_000)
    content: dict[str, object] = {}
    for _ in range(40):
        content = {"a": content, "b": content}
    assert converted(content) == "it holds more than a network has"


def test_a_memo_takes_no_more_entries_than_the_file_has_bytes() -> None:
    hostile = b"\x80\x02}r" + (200_000_000).to_bytes(4, "little") + b"."
    assert pickle.loads(hostile.replace(b"r\x00\xc2\xeb\x0b", b"r\x01\0\0\0")) == {}  # the pickle is right as such
    source = io.BytesIO(pickle.dumps(pickle_reader.MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + hostile)
    assert pickle_reader.convert(source, io.BytesIO()) == "it is no pickle that torch wrote"


def test_classes_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {weights.CLASSES: "["})
    with pytest.raises(WeightsError, match="names its classes in no way that can be read"):
        weights.classes_of(tmp_path / "x.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved_is_read_to_the_bit(zipped: bool, tmp_path: Path) -> None:
    state = {"a": torch.arange(12.0).reshape(3, 4).T, "b": torch.tensor([1, 2])}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    for name, tensor in weights.read(tmp_path / "x.pth").items():
        np.testing.assert_array_equal(tensor, state[name])
