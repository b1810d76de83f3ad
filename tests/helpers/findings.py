"""A small study of several findings per image: noise, brighter where a finding is, and a table with their labels."""

from pathlib import Path

import numpy as np
import small
from PIL import Image

FINDINGS = ["Cardiomegaly", "Edema", "Effusion"]
RATES = (0.3, 0.4, 0.5)
UNCERTAIN, MISSING = 0.08, 0.08
PIXELS = 24


def images(folder: Path, count: int = 60, seed: int = 0) -> Path:
    """`films/<n>.png` and labels.csv: one or two films of a patient, a column per finding with 1, 0, -1 or nothing.

    Each finding brightens its own third of the film. The first film has every finding, and the second none.
    """
    rng = np.random.default_rng(seed)
    present = rng.random((count, len(FINDINGS))) < RATES
    present[:2] = [[True], [False]]
    marks = np.where(rng.random(present.shape) < UNCERTAIN, "-1", np.where(present, "1", "0"))
    marks[2:][rng.random(marks[2:].shape) < MISSING] = ""
    marks[:2] = [["1"], ["0"]]
    lines = [",".join(["image", "patient", "sex", "age", *FINDINGS])]
    (folder / "films").mkdir(parents=True)
    for number, (shown, row) in enumerate(zip(present, marks, strict=True)):
        film = rng.integers(0, 160, (PIXELS, len(FINDINGS), PIXELS // len(FINDINGS)))
        film[:, shown] += 90
        Image.fromarray(film.reshape(PIXELS, PIXELS).astype(np.uint8)).save(folder / f"films/{number:03}.png")
        patient = number - (number % 3 == 1)  # two films, then one
        lines.append(",".join([f"{number:03}.png", f"p{patient:03}", "MF"[patient % 2], str(20 + patient), *row]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def use(source: Path, findings: list[str] | None = None) -> small.Change:
    """A change that points the study at such images."""

    def change(tree: small.Tree) -> None:
        small.use(source, findings or FINDINGS, None)(tree)
        tree["data"].update(task="multi-label")
        tree["loss"].update(name="bce")
        tree["split"].update(strategy="random")

    return change
