"""Which copies of X-rays are found, and how often two different films are taken for one: not part of `make bench`.

    python bench/duplicates.py FOLDER [FOLDER ...] [--of 1000]

Reads every image below the folders, and changes 1,000 of each folder in memory, in each way. Found is a copy that
the audit pairs with its original, among the films of all folders. Writes bench/results/duplicates.json. Pairs of
films that nobody changed are listed, so that they can be looked at.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from xraylab.data import index, pixels
from xraylab.data.audit import duplicates

Gray = NDArray[np.uint8]
Change = Callable[[Gray, np.random.Generator], Gray]
SUFFIXES = (".png", ".jpg", ".jpeg")


def jpeg(gray: Gray, quality: int = 50) -> Gray:
    packed = io.BytesIO()
    Image.fromarray(gray).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed))


def half(gray: Gray) -> Gray:
    return np.asarray(Image.fromarray(gray).resize((gray.shape[1] // 2, gray.shape[0] // 2)))


def cropped(gray: Gray, share: float, down: float = 0.5, across: float = 0.5) -> Gray:
    """Without `share` of height and width; `down` and `across` say how much of that above and at the left."""
    height, width = (round(side * (1 - share)) for side in gray.shape)
    top, left = round((gray.shape[0] - height) * down), round((gray.shape[1] - width) * across)
    return gray[top : top + height, left : left + width]


def one_edge(gray: Gray, rng: np.random.Generator) -> Gray:
    down, across = round(0.1 * gray.shape[0]), round(0.1 * gray.shape[1])
    return [gray[down:], gray[:-down], gray[:, across:], gray[:, :-across]][rng.integers(4)]


def bordered(gray: Gray, level: int) -> Gray:
    return np.pad(gray, round(0.08 * max(gray.shape)), constant_values=level)


def lettered(gray: Gray, rng: np.random.Generator) -> Gray:
    """With a white letter in an upper corner, a tenth as high as the film."""
    image, size = Image.fromarray(gray), max(8, gray.shape[0] // 10)
    left = rng.random() < 0.5
    at = (0.05 * gray.shape[1] if left else 0.95 * gray.shape[1] - size, 0.05 * gray.shape[0])
    ImageDraw.Draw(image).text(at, "R" if left else "L", fill=255, font=ImageFont.load_default(size))
    return np.asarray(image)


CHANGES: dict[str, Change] = {
    "JPEG, quality 50": lambda gray, _: jpeg(gray),
    "half the size, JPEG": lambda gray, _: jpeg(half(gray)),
    "brighter by 15 % and 15 levels": lambda gray, _: np.clip(gray * 1.15 + 15, 0, 255).astype(np.uint8),
    "a letter burned in, a tenth as high as the film": lettered,
    "a black border of 8 %, JPEG": lambda gray, _: jpeg(bordered(gray, 0)),
    "a white border of 8 %": lambda gray, _: bordered(gray, 255),
    "mirrored": lambda gray, _: gray[:, ::-1],
    "mirrored, half the size, JPEG": lambda gray, _: jpeg(half(gray[:, ::-1])),
    "inverted": lambda gray, _: 255 - gray,
    "inverted, JPEG": lambda gray, _: jpeg(255 - gray),
    "cropped: 5 % of height and width, evenly": lambda gray, _: cropped(gray, 0.05),
    "cropped: 10 %, evenly": lambda gray, _: cropped(gray, 0.1),
    "cropped: 10 %, anywhere, JPEG": lambda gray, rng: jpeg(cropped(gray, 0.1, rng.random(), rng.random())),
    "cropped: 10 % from one edge": one_edge,
    "cropped: 10 % from each edge": lambda gray, _: cropped(gray, 0.2),
    "cropped: 10 %, anywhere, mirrored": lambda gray, rng: cropped(gray, 0.1, rng.random(), rng.random())[:, ::-1],
}  # fmt: skip


def films(folder: Path) -> list[Gray]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [pixels.gray(pixels.decode(path).levels) for path in paths]


def copies(originals: list[Gray], change: Change) -> list[Gray]:
    rng = np.random.default_rng(0)
    return [np.ascontiguousarray(change(gray, rng)) for gray in originals]


def indexed(named: dict[str, Gray]) -> index.Measured:
    """As `index` would have it, had the images lain in a folder."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for name, gray in named.items():
            Image.fromarray(gray).save(Path(folder) / name, compress_level=1)
        blank = dict.fromkeys(("patient", "split", "source", "sex", "age", "view"), "")
        table = pd.DataFrame({"id": list(named), "path": list(named), "label": "film"}).assign(**blank)
        return index.measure(Path(folder), table)


def joined(one: index.Measured, other: index.Measured) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    return pd.concat([one.table, other.table], ignore_index=True), np.concatenate([one.thumbnails, other.thumbnails])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--of", type=int, default=1000)
    given = parser.parse_args()
    named = {
        f"{folder.name}-{number}.png": gray for folder in given.folders for number, gray in enumerate(films(folder))
    }
    measure.say(f"{len(named):,} films")
    every = indexed(named)
    distinct = ~every.table["pixel_hash"].duplicated().to_numpy()
    unchanged = index.Measured(every.table[distinct].reset_index(drop=True), [], every.thumbnails[distinct])
    start = time.monotonic()
    before = duplicates.near(unchanged.table, unchanged.thumbnails)
    seconds = time.monotonic() - start
    count = len(unchanged.table)
    measure.say(f"{count:,} different files of pixels, {count * (count - 1) // 2:,} pairs, {seconds:.1f} s:")
    for row in before.itertuples():
        measure.say(f"    {row.id} ~ {row.other}: {row.change}, {row.bits} bits")
    rng = np.random.default_rng(0)
    names = unchanged.table["id"]
    chosen = [
        str(name)
        for folder in given.folders
        for own in [names[names.str.startswith(f"{folder.name}-")]]
        for name in rng.choice(own, min(given.of, len(own)), replace=False)
    ]
    rows = []
    known = set(zip(before["id"], before["other"], strict=True))
    for change, how in CHANGES.items():
        made = copies([named[name] for name in chosen], how)
        changed = indexed({f"copy-{name}": gray for name, gray in zip(chosen, made, strict=True)})
        table, thumbnails = joined(unchanged, changed)
        near = duplicates.near(table, thumbnails)
        pairs = dict(zip(zip(near["id"], near["other"], strict=True), near["change"], strict=True))
        right = [(name, f"copy-{name}") for name in chosen]
        same = {f"copy-{name}": name for name in chosen} | {name: name for name in names}
        alike = {tuple(sorted(pair)) for pair in known} | {(name, name) for name in names}
        wrong = [pair for pair in pairs if tuple(sorted((same[pair[0]], same[pair[1]]))) not in alike]
        found = sum(pair in pairs or pair[::-1] in pairs for pair in right)
        seen = duplicates.find_copies(changed.table, unchanged.table)
        rows.append({
            "change": change,
            "copies": len(chosen),
            "found by the audit, %": round(100 * found / len(chosen), 1),
            "found by `external-test`, %": round(100 * float((seen != "").mean()), 1),
            "different films called one": len(wrong),
        })  # fmt: skip
        measure.say(str(rows[-1]))
        measure.say(f"    {[(*pair, pairs[pair]) for pair in wrong[:8]]}")
    sys.exit(0 if measure.write("duplicates", {"Changed copies": rows}, {}) else 1)


if __name__ == "__main__":
    main()
