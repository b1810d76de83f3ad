"""Targets of bench/fuzz.py: YAML and tables of people, the JSON records that xraylab reads again, and uploads."""

import atexit
import contextlib
import csv
import functools
import io
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import measure
import numpy as np
import safetensors.numpy
from fuzz_mutations import Mutation, Target
from numpy.typing import NDArray

from xraylab import dvc_lock, files, leftovers, running
from xraylab.data import layouts
from xraylab.data.image_facts import Look
from xraylab.data.layouts import TableConfig
from xraylab.data.sources import local, recording
from xraylab.data.sources.recording import Locations
from xraylab.data.split import assignment, leakage, lists
from xraylab.errors import DataError, ParamsError
from xraylab.evaluate import power, predictions
from xraylab.inference import bundle, card, samples
from xraylab.inference.appearance import Appearance, Measurements
from xraylab.inference.copies import SeenHashes
from xraylab.inference.reference import Reference
from xraylab.inference.warnings import Expected, ImageFacts
from xraylab.integrity import verify
from xraylab.jobs.engines.engine import Resources
from xraylab.jobs.session import FILE, Session, Submitted
from xraylab.params import config
from xraylab.paths import Paths
from xraylab.predict import checkpoints, thresholds
from xraylab.report import summary
from xraylab.serve import uploads
from xraylab.serve.limits import ApiError
from xraylab.stages import evaluate
from xraylab.terminal import Console
from xraylab.train import generations

sys.path.append(str(measure.REPOSITORY / "tests/helpers"))
import finished_study

LONG, WIDTH = "x" * 300, 8
STRANGE = (
    "", " ", LONG, "nan", "1e999", "-1", "0.5", "NA", "007", "=1+1", "../../x", "/etc/x", "a,b", "a\nb", "a\rb",
    "\0", "\u202egnp.exe", "\x1b[2J", "<script>", "é", "肺", '"', "'", "{{7*7}}", "2001-01-01", "baseline", "test",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *STRANGE, "\ud800", None, True, [], {}, [[]], [{}], {"": {}}, {"class": 1}, [None], [1, "a"], 0, 1, -1, 0.5, 1e-320,
    1e308, float("inf"), float("nan"), 10**30, 2**63, -(2**63), 10**400,
)  # fmt: skip
SCALARS = (
    "null", "~", "yes", "0o17", "0x1f", "1_000", ".inf", ".nan", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]",
    "&a x", "*a", "!x y", "!!python/name:os.system", "2001-12-14t21:59:43.10-05:00", "|", ">", "? a", "[", "{a: 1}",
    "- 1", "%YAML 1.1", "!!int x", "!!float x", "!!timestamp x", "!!bool 1", "<<: *a", "{? [a] : b}", "1: 2", "'",
    '"\\x', "---", "...", "#", "!!null x", "!!seq {}", "!!map []", "!!str [a]", "0b1", "1e3", "12:30:45", "=", "<<",
)  # fmt: skip


# --- the study whose files are replaced by inputs


@functools.cache
def _folder() -> Path:
    """For the studies of this process and of those that it forks, which leave without a word."""
    folder = tempfile.mkdtemp(prefix=f"fuzz-{os.getpid()}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def _finished() -> Path:
    """A finished study of few images; made before `fuzz` forks."""
    folder = _folder() / "finished"
    images = {split: {"Healthy": 6, "TB": 6} for split in finished_study.SPLITS}
    params, paths = finished_study.make(folder, {"study": {"repeats": [0]}}, images, skill=0.5)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate.run(params, paths)
    for name in ("A/x1.png", "A/x2.png", "B/x3.png", "B/x4.png"):
        (paths.raw / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.raw / name).touch()
    return folder


@functools.cache
def _study(process: int) -> Paths:
    """A copy for each process."""
    return Paths(shutil.copytree(_finished(), _folder() / str(process)))


def study() -> Paths:
    return _study(os.getpid())


@contextlib.contextmanager
def replaced(path: Path, data: bytes) -> Iterator[Path]:
    """Put the input into a file's place while it is read."""
    before = path.read_bytes() if path.is_file() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        yield path
    finally:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)


# --- YAML


def read_yaml(data: bytes) -> object:
    """Small documents through the parser, and what they say through the checks of params.yaml."""
    with replaced(study().state / "fuzz.yaml", data) as path:
        tree = files.read_yaml(path)
    with contextlib.suppress(ParamsError):
        config.validate(tree, "params.yaml")
    return tree


def read_params(data: bytes) -> object:
    with replaced(study().params, data) as path:
        return config.read(path)


def read_config(data: bytes) -> object:
    with replaced(study().config("baseline"), data) as path:
        return config.read_config(path)


def read_lock(data: bytes) -> object:
    """A dvc.lock of a study of two stages, as `xraylab verify` reads it."""
    paths = study()
    with (
        patch.object(dvc_lock, "PAUSE", 0.0),  # what cannot be read is not half-written here
        replaced(paths.root / "dvc.yaml", STAGES.encode()),
        replaced(paths.params, b"a: 1\n"),
        replaced(paths.lock, data),
    ):
        return verify.as_rows(verify.verify(paths))


# --- tables


def read_labels(data: bytes) -> object:
    """A table beside images of two classes."""
    with replaced(study().raw / "labels.csv", data):
        return layouts.read(study().raw, "auto", None, None, None, TableConfig.of(None, {}))


def read_lists(data: bytes) -> object:
    """A list of the test images of one's own."""
    folder = study().state / "lists"
    train = b"id,path\nA/x2.png,A/x2.png\n"
    with replaced(folder / "train_data.csv", train), replaced(folder / "test_data.csv", data):
        column, rows = lists.read(folder)
        names = ["A/x1.png", "A/x2.png", "B/x3.png"]
        lists.write_record(column, rows, "lists", study().given_splits)
        return lists.assign(*lists.read_record(study().given_splits, "lists"), names, names, "")


def read_index(data: bytes) -> object:
    """data/index.csv, as `split` reads it."""
    params = config.validate(_shipped(), "params.yaml")
    with replaced(study().index, data) as path:
        splits = assignment.assign(assignment.read_index(path), leakage.NONE.assign(other="", how=""), params.split)
        return assignment.find_leaks(splits, leakage.NONE.assign(other="", how=""))


def read_predictions(data: bytes) -> object:
    paths = study()
    with replaced(paths.prediction("baseline", 0), data):
        return predictions.read_predictions(paths, "baseline", 0, ["Healthy", "TB"])


# --- JSON: a line that says which record it is, and the record


def read_record(data: bytes) -> object:
    """A record of a study or of a session, as commands read it."""
    kind, _, content = data.partition(b"\n")
    return RECORDS[min(RECORDS, key=lambda name: (name.encode() != kind, name))](content)


def _summary(data: bytes) -> object:
    """As `xraylab show` and `plan-size` read it."""
    paths = study()
    with replaced(paths.evaluation / "summary.json", data) as path, contextlib.redirect_stdout(io.StringIO()):
        Console().print(summary.read_for_terminal(path.parent, paths.audit, paths.explanation))
        return power.read_and_plan(path, 0.02, 0.8)


def _model(data: bytes) -> object:
    """model.json, as whoever loads a run needs it."""
    with replaced(study().model("baseline", 0) / "model.json", data):
        run = checkpoints.load_run(study(), "baseline", 0)
        return run.name, run.classes, run.task, run.epoch()


def _calibration(data: bytes) -> object:
    with replaced(study().evaluation / thresholds.TEMPERATURES, data) as path:
        return thresholds.read(path.parent, "baseline", 0)


def _source(data: bytes) -> object:
    """data/source.json of a folder, and of one that is not on this machine."""
    paths = study()
    with replaced(paths.source, data) as path:
        recorded = recording.read(path)
    params = config.validate(_shipped() | {"data": _shipped()["data"] | {"source": str(paths.root / "absent")}}, "")
    return recording.describe(params.data, recorded, Locations(paths.home, paths.state / "hashes.json", []), str)


def _hashes(data: bytes) -> object:
    """What is remembered of the files of a source."""
    with replaced(study().state / "hashes.json", data) as path:
        local.changes(study().raw, path)
        return local.describe(study().raw, path)


def _state(data: bytes) -> object:
    with replaced(study().state / "runs/baseline-0-0" / generations.MANIFEST, data) as path:
        return generations.problem(path.parent, contents=True)


def _session(data: bytes) -> object:
    with replaced(study().state / "jobs/20260101-000000" / FILE, data) as path:
        session = Session.load(path.parent)
        return session.live, session.way_back


def _running(data: bytes) -> object:
    with replaced(study().state / "running/train.1.json", data) as path:
        return [(each.alive, f"{each.epoch} {each.epochs}") for each in running.read(path.parent)]


def _rwlock(data: bytes) -> object:
    with replaced(study().root / ".dvc/tmp/rwlock", data):
        return leftovers.mend_rwlock(study().root)


RECORDS: dict[str, Callable[[bytes], object]] = {
    "summary": _summary,
    "model": _model,
    "calibration": _calibration,
    "source": _source,
    "hashes": _hashes,
    "state": _state,
    "session": _session,
    "running": _running,
    "rwlock": _rwlock,
}


def read_bundled(data: bytes) -> object:
    """A record of a bundle, which comes from elsewhere."""
    kind, _, content = data.partition(b"\n")
    match kind:
        case b"reference":
            return _check_reference(content)
        case b"expected":
            return samples._expected({samples.EXPECTED: content, "samples/a.png": b""}, "x.zip")
        case _:
            facts = card.from_json(content)
            return facts.record, facts.thresholds, card.to_json(facts)


def _check_reference(record: bytes) -> object:
    """The statistics of the training images, and the warnings of an image by them."""
    tensors = safetensors.numpy.save(_fitted()[0])
    reference = bundle._reference(Path("x.zip"), {bundle.REFERENCE_RECORD: record, bundle.REFERENCE: tensors})
    assert reference is not None
    look = Look("0" * 64, "", 0.5, 0.0)
    facts = ImageFacts({"modality": "DX", "view": "LL", "body_part": "HAND"}, flat=False, colour=0.0, look=look)
    return reference.check(_films(1), np.ones((1, WIDTH), np.float32), [facts])


# --- uploads


def read_upload(data: bytes) -> object:
    """A line with the Content-Type, and the body."""
    kind, _, body = data.partition(b"\n")
    try:
        return [(each.name, len(each.content)) for each in uploads.parse(kind.decode("latin-1"), body, 4)]
    except ApiError as error:
        if not 400 <= error.status < 500:
            raise
        raise DataError(error.message) from None


# --- valid files


@functools.cache
def _shipped() -> dict[str, Any]:
    """params.yaml with two experiments."""
    tree: dict[str, Any] = files.read_yaml(measure.REPOSITORY / "params.yaml")
    return tree | {"experiments": {name: tree["experiments"][name] for name in ("baseline", "l2")}}


def yaml_seeds() -> list[bytes]:
    return [
        b"study:\n  repeats: [0, 1]\n  baseline: a\nexperiments:\n  a: {}\n  b:\n    train: {lr: 1e-3}\n",
        b"a: &x {b: 1.5, c: [yes, null, ~]}\nd:\n  <<: *x\n  e: 2001-01-01\nf: |\n  text\n  more\n",
        b"# a comment\n? k\n: 'single'\n\"double\\n\": !!str 1\n? 1\n: - 0x1f\n  - .inf\n",
    ]


def params_seeds() -> list[bytes]:
    """As xraylab writes it, and on one line."""
    with replaced(study().params, b"") as path:
        files.write_yaml(_shipped(), path)
        return [path.read_bytes(), json.dumps(_shipped()).encode()]


def config_seeds() -> list[bytes]:
    return [study().config("baseline").read_bytes()]


STAGES = """stages:
  one:
    cmd: python one.py
    params: [a]
    outs: [out/one]
  two:
    cmd: python two.py
    deps: [out/one, configs]
    outs: [two.csv]
"""

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
LOCK = f"""schema: '2.0'
stages:
  one:
    cmd: python one.py
    params:
      params.yaml:
        a: 1
    outs:
    - path: out/one
      hash: md5
      md5: {MD5}.dir
      size: 0
      nfiles: 1
  two:
    cmd: python two.py
    deps:
    - path: configs
      md5: {MD5}
    outs:
    - path: two.csv
      md5: {MD5}
      size: 0
"""


def lock_seeds() -> list[bytes]:
    return [LOCK.encode()]


def label_seeds() -> list[bytes]:
    return [
        b"image,label,patient,split,age,sex\nx1.png,A,p1,train,63Y,M\nx2.png,B,p2,test,7,female\nx3.png,A,p1,,,\n",
        b'Image Index;Finding Labels;Patient ID\n"A/x1.png";Mass|Nodule;1\nA/x2.png;No Finding;2\nB/x3.png;Mass;3\n',
        b"\xef\xbb\xbfpath\tNodule\tMass\nA/x1.png\t1\t0\nA/x2.png\t0\t-1\nB/x3.png\t\t1.0\n",
    ]


def list_seeds() -> list[bytes]:
    return [b"id,path\nA/x1.png,A/x1.png\n", b"id;split\r\nB/x3.png;test\r\nA/x1.png;test\r\n"]


def index_seeds() -> list[bytes]:
    rows = [f"{label}/{number}.png" for label in ("Healthy", "TB") for number in range(12)]
    lines = [f"{name},{name},{name.partition('/')[0]},p{n // 2},,,{n:064x},40" for n, name in enumerate(rows)]
    return ["\n".join(["id,path,label,patient,split,source,pixel_hash,age", *lines, ""]).encode()]


def prediction_seeds() -> list[bytes]:
    return [study().prediction("baseline", 0).read_bytes()]


def record_seeds() -> list[bytes]:
    paths, sha256 = study(), "0" * 64
    md5 = generations._sha256([{"epoch": 1, "files": {"state-001.pt": sha256}}])
    session = {"jobs": {"baseline-0": asdict(Submitted(("train@baseline-0",)))}, "resources": asdict(Resources())}
    session |= dict.fromkeys(("folder", "engine", "study", "repository", "commit", "ref"), "slurm") | {"size": 1}
    stamp = {str(paths.raw / "A/x1.png"): [0, 0, sha256]}
    lock_ = {"write": {"/a": {"pid": 1 << 22, "cmd": "dvc repro"}}, "read": {"/b": [{"pid": 1 << 22, "cmd": "dvc"}]}}
    stage = running.Running("train@baseline-0", 1 << 22, 0.0, platform.node(), 0.0, metrics={"valid_f1": 0.5})
    source = {"kind": "folder", "name": "absent", "files": 1, "bytes": 1, "sha256": sha256}
    trees = {
        "summary": files.read_json(paths.evaluation / "summary.json"),
        "model": files.read_json(paths.model("baseline", 0) / "model.json"),
        "calibration": files.read_json(paths.evaluation / thresholds.TEMPERATURES),
        "source": source,
        "hashes": stamp,
        "state": {"generations": [{"epoch": 1, "files": {"state-001.pt": sha256}}], "sha256": md5},
        "session": session,
        "running": asdict(stage),
        "rwlock": lock_,
    }
    assert set(trees) == set(RECORDS)
    return [f"{kind}\n{json.dumps(tree)}".encode() for kind, tree in trees.items()]


def bundled_seeds() -> list[bytes]:
    trees = {
        "card": json.loads(_card()),
        "reference": _fitted()[1],
        "expected": {"images": [{"file": "samples/a.png", "probabilities": {"Healthy": 0.25, "TB": 0.75}}]},
    }
    return [f"{kind}\n{json.dumps(tree)}".encode() for kind, tree in trees.items()]


def _films(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32), np.uint8)


@functools.cache
def _fitted() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """A reference of random images, as a bundle has it."""
    rng = np.random.default_rng(1)
    measured = Measurements.of(_films(60), rng.random((60, WIDTH), np.float32), search_lungs=True)
    looks = Appearance.fit(measured, measured, np.full(60, -1.0))
    hashes = SeenHashes(*rng.integers(0, 2**63, (2, 4, 60), np.uint64), 40)
    return Reference(looks, Expected(("DX",), ("PA",), ("CHEST",), True), hashes).to_tensors()


def _card() -> str:
    """The card of a network of two classes."""
    estimate = card.Estimate(0.9, 0.8, 0.95)
    images = _shipped()["images"]
    head = card.Head("linear", None, None)
    return card.to_json(
        card.ModelCard(
            1, "baseline/0", "A study", "single-label", ("Healthy", "TB"), "TB",
            card.Network("resnet18", None, 1, 64, head, 0.1, 11_000_000, 10**9, "float32"),
            card.Preprocessing(images, (0.4,), (0.2,), "as they are"),
            (card.CardPoint("TB", "highest Youden index on validation", 0.4, estimate, estimate),), 1.2, {},
            card.Data("demo", (), {"test": card.SplitSize(8, None)}, "0" * 64, "drawings"), ("Trained.",),
            card.Selection(3, "valid_f1", False, "by F1"), card.StartingWeights("none", "random", None, None),
            (card.Metric("TB", "auroc", estimate, 8),), 0.95, "bootstrap", "research", ("small",), {"torch": "2"},
        )
    )  # fmt: skip


def upload_seeds() -> list[bytes]:
    header = 'Content-Disposition: form-data; name="files"; filename="{1}"\r\nContent-Type: image/png'
    part = "--{0}\r\n" + header + "\r\n\r\n{2}\r\n"
    bodies = [("x", [("a.png", "content")]), ("---b-0'()+_,./:=?", [("a.dcm", "a\r\n--b"), ("ü.png", "")])]
    return [
        "".join([
            f"multipart/form-data; boundary=\"{boundary}\"\n",
            *(part.format(boundary, *each) for each in parts),
            f"--{boundary}--\r\n",
        ]).encode()
        for boundary, parts in bodies
    ]  # fmt: skip


# --- mutations


def _change_tree(tree: Any, random: Random) -> Any:
    """Another value at one place, or no such place, or one more."""
    if not isinstance(tree, dict | list) or not tree or random.random() < 0.12:
        return random.choice(VALUES)
    if isinstance(tree, list):
        number = random.randrange(len(tree))
        changed = [*tree]
        changed[number : number + 1] = random.choice(
            ([_change_tree(tree[number], random)],) * 4 + ([], [tree[number]] * 2)
        )
        return changed
    key, changed_ = random.choice(list(tree)), dict(tree)
    match random.randrange(7):
        case 0:
            del changed_[key]
        case 1:
            changed_[random.choice(STRANGE)] = random.choice(VALUES)
        case 2:
            changed_[key] = tree[random.choice(list(tree))]
        case _:
            changed_[key] = _change_tree(tree[key], random)
    return changed_


def change_json(data: bytes, random: Random) -> bytes:
    """Another tree, behind the first line where that names the record."""
    head, separator, content = data.rpartition(b"\n")
    try:
        return head + separator + json.dumps(_change_tree(json.loads(content), random)).encode()
    except Exception:  # an earlier mutation may have made anything of it
        return data


def change_state(data: bytes, random: Random) -> bytes:
    """Other generations of a run, with the right sum."""
    changed = change_json(data, random)
    kind, _, content = changed.partition(b"\n")
    try:
        tree = json.loads(content) if kind == b"state" else {}
        sum_ = generations._sha256(tree["generations"])
        return kind + b"\n" + json.dumps(tree | {"sha256": sum_}).encode()
    except Exception:  # as above
        return changed


def change_yaml(data: bytes, random: Random) -> bytes:
    """Another value, another indentation, or lines dropped, repeated or moved."""
    lines = data.splitlines(keepends=True) or [b"\n"]
    number = random.randrange(len(lines))
    line = lines[number]
    key, colon, _ = line.partition(b":")
    scalar = random.choice((*SCALARS, *STRANGE)).encode()
    match random.randrange(6):
        case 0:
            del lines[number]
        case 1:
            lines.insert(random.randrange(len(lines)), line)
        case 2:
            lines[number] = b" " * random.choice((1, 2, 4)) + line if random.random() < 0.5 else line.lstrip()
        case 3:
            lines[number] = key.rstrip().replace(key.strip(), scalar) + colon + line.partition(b":")[2]
        case _:
            lines[number] = key + (colon or b":") + b" " + scalar + b"\n"
    return b"".join(lines)


def change_cells(data: bytes, random: Random) -> bytes:
    """Another cell, row, column or separator; often written as a spreadsheet would."""
    try:
        text = data.decode("utf-8-sig")
        separator = max(",;\t|", key=text.partition("\n")[0].count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except Exception:  # as above
        return data
    if not rows or not rows[0]:
        return data
    number, column = random.randrange(len(rows)), random.randrange(len(rows[0]))
    match random.randrange(8):
        case 0:
            rows.insert(random.randrange(len(rows)), rows[number])
        case 1:
            del rows[number]
        case 2:
            rows = [row[:column] + row[column + 1 :] for row in rows]
        case 3:
            rows = [row + row[column : column + 1] for row in rows]
        case 4:
            rows[number] = [*rows[number][:column], random.choice(STRANGE)]
        case 5:
            value = random.choice(STRANGE)
            rows = [[*row[:column], value, *row[column + 1 :]] if n else row for n, row in enumerate(rows)]
        case _:
            rows[number] = [*rows[number][:column], random.choice(STRANGE), *rows[number][column + 1 :]]
    written = io.StringIO()
    writer = csv.writer(
        written,
        delimiter=random.choice((separator,) * 6 + (";", "\t")),
        lineterminator=random.choice(("\n", "\n", "\r\n", "\r")),
        quoting=random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
    )
    writer.writerows(rows)
    return written.getvalue().encode(random.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16")), "replace")


HEADERS = (
    b"Content-Disposition: form-data; name=\"files\"", b"Content-Disposition: form-data; name=files; filename=../../x",
    b"Content-Disposition: form-data; name=\"files\"; filename*=UTF-8''%2e%2e%2fx", b"Content-Disposition: attachment",
    b"Content-Disposition: form-data; name=\"other\"; filename=\"x\"", b"Content-Transfer-Encoding: base64",
    b"X: " + b"x" * 9000,
    b"Content-Disposition: form-data; name=\"files\"; filename=\"" + b"x" * 9000 + b"\"", b"no colon", b": x", b"X",
    b"\0: \xff",
)  # fmt: skip


FORM = b"multipart/form-data; "
TYPES = (
    b"multipart/form-data", FORM + b"boundary=", b"multipart/mixed; boundary=x", b"text/plain", b"", b";", b"=" * 2000,
    FORM + b"boundary=" + b"x" * 300, FORM + b"boundary=x; boundary=y", FORM + b"boundary*=UTF-8''x",
    FORM + b"boundary=\"\xff\"", FORM + b"a=b; " * 500 + b"boundary=x", FORM + b"boundary=\"a\\\"b\"",
)  # fmt: skip


def change_upload(data: bytes, random: Random) -> bytes:
    """Another header, boundary or order of parts, or ends of lines that are none."""
    kind, _, body = data.partition(b"\n")
    boundary = kind.partition(b'boundary="')[2].partition(b'"')[0] or b"x"
    parts = body.split(b"--" + boundary)
    number = random.randrange(len(parts))
    match random.randrange(7):
        case 0:
            parts[number:number] = [parts[number]] * random.choice((1, 3, 50))
        case 1:
            del parts[number]
        case 2:
            head, blank, content = parts[number].partition(b"\r\n\r\n")
            parts[number] = (
                b"\r\n".join([head, *[random.choice(HEADERS)] * random.choice((1, 1, 30))]) + blank + content
            )
        case 3:
            parts[number] = b"\r\n" + random.choice(HEADERS) + b"\r\n\r\n" + random.randbytes(9) + b"\r\n"
        case 4:
            parts[number] = parts[number].replace(b"\r\n", random.choice((b"\n", b"\r", b"")))
        case 5:
            kind = random.choice(TYPES)
        case _:
            parts[number] += random.choice((b"--", b"\r\n", b"--" + boundary[:-1], b"-", b"\r"))
    return kind + b"\n" + (b"--" + boundary).join(parts)


JSON: tuple[Mutation, ...] = (change_json,)
CELLS: tuple[Mutation, ...] = (change_cells,)
TARGETS = {
    "yaml": Target(read_yaml, yaml_seeds, (change_yaml,)),
    "params": Target(read_params, params_seeds, (change_yaml, change_json)),
    "config": Target(read_config, config_seeds, (change_yaml,)),
    "dvc.lock": Target(read_lock, lock_seeds, (change_yaml,)),
    "labels": Target(read_labels, label_seeds, CELLS),
    "lists": Target(read_lists, list_seeds, CELLS),
    "index": Target(read_index, index_seeds, CELLS),
    "predictions": Target(read_predictions, prediction_seeds, CELLS),
    "records": Target(read_record, record_seeds, (change_json, change_json, change_state)),
    "bundled": Target(read_bundled, bundled_seeds, JSON),
    "uploads": Target(read_upload, upload_seeds, (change_upload,)),
}
