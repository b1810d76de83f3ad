"""The gallery's page: one file with everything in it, or for many images a folder of pictures and arrays beside it."""

import base64
import json
from importlib.resources import files as packed_files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from xraylab import files
from xraylab.report import page
from xraylab.report.artefacts import Artefacts
from xraylab.report.gallery import contents, thumbnails
from xraylab.report.gallery.contents import Contents
from xraylab.report.gallery.thumbnails import Overlays
from xraylab.report.pictures import Names, Radiographs
from xraylab.report.records import Tree

ONE_FILE = 1000  # images that fit into one file
BUDGET = 15_000_000  # bytes of all pictures in it, as base64
SIDE = 192  # pixels of a picture in a folder
SCRIPTS = ("counts.js", "study.js", "controls.js", "cards.js", "main.js")
ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


def write(data: Artefacts, folder: Path, one_file: int = ONE_FILE, budget: int = BUDGET) -> None:
    """index.html, and with more than `one_file` test images the folders images, overlays and runs.

    `budget`: bytes that the pictures of a single file may take in it.
    """
    names = Names.of(list(data.index["id"]), data.params.report.hide_names)
    shown = contents.read(data)
    overlays = _overlays(data, shown)
    facts = contents.to_json(shown, data, names) | {
        "evidence": {name: _evidence(each, shown) for name, each in overlays.items()}
    }
    radiographs, ids = Radiographs(data.paths.cache), list(shown.images["id"])
    if len(ids) > one_file:
        _write_pictures(radiographs, ids, overlays, folder)
        _write_runs(shown, folder)
        blocks: Tree = {}
    else:
        blocks = _pictures(radiographs, ids, overlays, budget) | {
            f"run-{name}": contents.packed(p) for name, p in shown.runs.items()
        }
    files.write_text(_render(data, names, {"facts": facts | {"folder": not blocks}} | blocks), folder / "index.html")


def _overlays(data: Artefacts, shown: Contents) -> dict[str, Overlays]:
    """Experiment -> its saliency maps; they are those of its first repeat."""
    explained = [each for each in data.explained["experiments"] if each.get("maps")]
    return {each["experiment"]: Overlays.read(data.paths.explanation, each["maps"]["name"]) for each in explained}


def _evidence(overlays: Overlays, shown: Contents) -> list[tuple[int, str, bool]]:
    """Of each map the number of the image, the class or finding that it explains, and whether there is evidence."""
    number_of = {name: number for number, name in enumerate(shown.images["id"])}
    return [
        (number_of[name], label, bool(each.any()))
        for name, label, each in zip(overlays.ids, overlays.evidence, overlays.maps, strict=True)
    ]


def _pictures(radiographs: Radiographs, ids: list[str], overlays: dict[str, Overlays], budget: int) -> Tree:
    """Blocks of the page: the thumbnails in base64, and of each experiment its overlays."""
    layers = {f"overlays-{name}": list(map(_base64, each.layers())) for name, each in overlays.items()}
    left = budget - sum(len(text) for each in layers.values() for text in each)
    pictures = thumbnails.fitting(radiographs, ids, left * 3 // 4 - 2 * len(ids))
    return {"thumbnails": list(map(_base64, pictures))} | layers


def _write_pictures(radiographs: Radiographs, ids: list[str], overlays: dict[str, Overlays], folder: Path) -> None:
    """images/<number>.webp, and overlays/<experiment>/<number>.webp with the same number."""
    number_of = {name: number for number, name in enumerate(ids)}
    (folder / "images").mkdir(parents=True)
    for number, picture in enumerate(thumbnails.encoded(radiographs, ids, SIDE)):
        (folder / f"images/{number}.webp").write_bytes(picture)
    for experiment, each in overlays.items():
        target = folder / "overlays" / experiment
        target.mkdir(parents=True)
        for name, picture in zip(each.ids, each.layers(), strict=True):
            (target / f"{number_of[name]}.webp").write_bytes(picture)


def _write_runs(shown: Contents, folder: Path) -> None:
    """runs/<experiment>-<repeat>.js, which the page loads when it shows the run: a file may not be fetched."""
    for name, p in shown.runs.items():
        files.write_text(f"received({_json(name)}, {_json(contents.packed(p))});\n", folder / f"runs/{name}.js")


def _render(data: Artefacts, names: Names, blocks: Tree) -> str:
    """The page; its policy lets it run its own script alone, and load what lies beside it only where it must."""
    script = "".join(_template(f"gallery/{name}") for name in SCRIPTS)
    folder = blocks["facts"]["folder"]
    beside = " 'self'" if folder else ""
    return (
        page.environment(names)
        .get_template("gallery/page.html.j2")
        .render(
            title=data.params.study.title,
            multi=data.summary.multi,
            binary=data.summary.positive is not None,
            chosen_on_test=data.summary.chosen_on_test,
            n=len(blocks["facts"]["names"]),
            overlays={name: len(each) for name, each in blocks["facts"]["evidence"].items()},
            first_repeat=data.summary.repeats[0],
            several=data.summary.several,
            sources=blocks["facts"]["sources"],
            blocks={name: Markup(_json(value)) for name, value in blocks.items()},  # noqa: S704 - escaped by `_json`
            script=Markup(script),  # noqa: S704 - our own files
            policy=f"img-src data:{beside}; style-src 'unsafe-inline'; script-src '{page.script_hash(script)}'{beside}",
        )
    )


def _json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or begins a comment."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(ESCAPES)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _template(name: str) -> str:
    return packed_files("xraylab.report").joinpath("templates", name).read_text(encoding="utf-8")
