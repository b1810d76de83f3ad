"""Images in several files are read as if they were in one."""

from pathlib import Path
from typing import Any

import augmentations
import numpy as np
import pandas as pd
import pytest
import torch

from xraylab import shards, tables
from xraylab.data import augment, image_cache
from xraylab.data.image_cache import IMAGENET, ImageCache
from xraylab.errors import DataError
from xraylab.shards import Shards

WHOLE = np.random.default_rng(0).integers(0, 256, (11, 24, 24), np.uint8)


def write(folder: Path, lengths: tuple[int, ...]) -> Path:
    """A cache of WHOLE in shards of these lengths."""
    names = [f"images-{number:05}.npy" for number in range(len(lengths))]
    for name, rows in zip(names, np.split(WHOLE, np.cumsum(lengths)[:-1]), strict=True):
        np.save(folder / name, rows)
    tables.write(pd.DataFrame({"file": names, "images": lengths, "sha256": "x"}), folder / "shards.csv")
    tables.write(pd.DataFrame({"id": [f"i{number}" for number in range(len(WHOLE))]}), folder / "rows.csv")
    return folder


KEYS: list[Any] = [
    0, 10, -1, np.int64(7), slice(2, 9), slice(None, None, -3), [], [10, 0, 4, 4, -2], np.array([3, 8, 3]),
    np.arange(11) % 2 == 0,
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("lengths", [(11,), (4, 4, 3), (1, 10)])
def test_shards_are_indexed_like_one_array(lengths: tuple[int, ...], key: Any) -> None:
    several = Shards(np.split(WHOLE, np.cumsum(lengths)[:-1]))
    np.testing.assert_array_equal(several[key], WHOLE[key])
    assert (several.shape, several.dtype, several.nbytes, len(several)) == (WHOLE.shape, WHOLE.dtype, WHOLE.nbytes, 11)
    assert [image.tobytes() for image in several] == [image.tobytes() for image in WHOLE]


@pytest.mark.parametrize("key", [11, -12, [3, 11]])
def test_a_row_that_is_not_there_is_an_index_error(key: Any) -> None:
    with pytest.raises(IndexError):
        Shards([WHOLE[:4], WHOLE[4:]])[key]


def test_some_rows_are_taken_without_a_copy() -> None:
    mask = np.arange(11) % 3 > 0
    some = Shards([WHOLE[:4], WHOLE[4:]]).take(mask)
    np.testing.assert_array_equal(some[:], WHOLE[mask])
    assert some.nbytes == WHOLE[mask].nbytes
    assert np.shares_memory(some[3], WHOLE)


def test_a_network_gets_the_same_bits_from_shards(tmp_path: Path) -> None:
    several, row_of = shards.load(write(tmp_path, (4, 4, 3)))
    assert (type(several), row_of["i7"]) == (Shards, 7)
    rows = np.array([10, 3, 4, 0])
    strong = augmentations.strong(degrees=9, brightness=0.2, p_sharpness=0.5, p_hflip=0.5)
    drawn = strong.draw(augment.uniform([0], len(rows)))
    for device in ("cpu", "meta"):  # "meta" takes the way of a GPU
        one, other = (ImageCache(images, IMAGENET[1], 12, device) for images in (WHOLE, several))
        for x, y in (
            (one.of(rows), other.of(rows)),
            (one.augment(rows, drawn, strong), other.augment(rows, drawn, strong)),
        ):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)
            assert device == "meta" or torch.equal(x, y)
    moved = image_cache.gpu_cache.load(several, torch.device("cpu"))
    np.testing.assert_array_equal(moved.numpy(), WHOLE)


def test_a_cache_that_is_gone_in_part_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, (4, 4, 3))
    remedy = "run `dvc checkout data/cache`, or `dvc repro --force cache`"
    manifest = (tmp_path / "shards.csv").read_text()
    (tmp_path / "shards.csv").write_text("".join(manifest.splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="incomplete") as caught:
        shards.load(tmp_path)
    assert str(caught.value) == f"{tmp_path} is incomplete (8 images for 11 ids): {remedy}"
    (tmp_path / "shards.csv").write_text(manifest)
    with (tmp_path / "images-00001.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=r"is incomplete \(mmap length is greater than file size\): run `dvc checkout"):
        shards.load(tmp_path)
    (tmp_path / "images-00001.npy").unlink()
    with pytest.raises(DataError, match=r"is incomplete \(.*No such file or directory: .*images-00001.npy"):
        shards.load(tmp_path)


def test_shards_are_read_through_links_to_a_shared_folder(tmp_path: Path) -> None:
    for folder in ("shared", "study"):
        (tmp_path / folder).mkdir()
    for path in write(tmp_path / "shared", (4, 4, 3)).iterdir():
        (tmp_path / "study" / path.name).symlink_to(path)
    np.testing.assert_array_equal(shards.load(tmp_path / "study")[0][:], WHOLE)
    assert shards.hashes(tmp_path / "study") == shards.hashes(tmp_path / "shared")


def test_what_depends_on_shards_reads_their_manifest_and_not_the_images(tmp_path: Path) -> None:
    before = shards.hashes(write(tmp_path, (4, 4, 3)))
    (tmp_path / "shards.csv").write_text((tmp_path / "shards.csv").read_text().replace("x", "y", 1))
    assert [a == b for a, b in zip(before, shards.hashes(tmp_path), strict=True)] == [True, False]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_are_all_shards_each_once(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 10)
    every = shards.ranges(47)
    assert [len(each) for each in every] == [10, 10, 10, 10, 7]
    split = [shards.of_part(every, (number + 1, parts)) for number in range(parts)]
    assert sorted((each for part in split for each in part), key=lambda each: each.start) == every
    assert max(map(len, split)) - min(map(len, split)) <= 1
    assert shards.of_part(every, None) == every


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "a/b", "1/", "-1/2"])
def test_what_is_no_part_is_refused(text: str) -> None:
    assert shards.parse_part("2/8") == (2, 8)
    with pytest.raises(DataError) as caught:
        shards.parse_part(text)
    assert str(caught.value) == f"--part {text!r} is no part: write which of how many, such as 2/8, from 1/8 to 8/8"
