"""Paths of all files in a study."""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from xraylab.errors import DataError, MissingError


def parse_run(name: str) -> tuple[str, int | None]:
    """The parts of a run's name as commands take it, experiment/repeat or experiment alone. Errors: DataError."""
    experiment, slash, repeat = name.partition("/")
    if not experiment or (slash and not repeat.isdecimal()):
        raise DataError(f"{name!r} names no run: write experiment or experiment/repeat, such as baseline/0")
    return experiment, int(repeat) if slash else None


@dataclass(frozen=True)
class Paths:
    """The files of one checkout; `root` is the folder that holds params.yaml."""

    root: Path

    @classmethod
    def here(cls) -> "Paths":
        """The study in the current folder."""
        root = Path.cwd()
        if not (root / "params.yaml").is_file():
            raise MissingError(f"no params.yaml in {root}: run this command in the top folder of a study")
        return cls(root)

    @property
    def home(self) -> Path:
        """The user's own checkout, also while a queued experiment runs in a temporary one."""
        return Path(os.environ.get("DVC_ROOT", self.root))

    @property
    def state(self) -> Path:
        """Scratch that outlives a stage: hashes of source files, resume points. Safe to delete, but for `salt`."""
        return self.home / ".xraylab"

    def salt(self) -> bytes:
        """The salt of the hashes of DICOM patients, created at its first use, outside git and DVC."""
        path = self.state / "salt"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".salt.{secrets.token_hex(8)}")
            temporary.write_bytes(secrets.token_bytes(32))
            temporary.chmod(0o600)
            try:
                os.link(temporary, path)  # of several processes that begin together, the first one's
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                shutil.copy2(temporary, path)
            temporary.unlink()
        return path.read_bytes()

    def from_home(self, name: str) -> Path:
        """A path that the user wrote: `~` expanded, a relative one read from `home`."""
        return self.home / Path(name).expanduser()

    def weights(self, name: str) -> Path:
        """A weight file that the user named, or the best weights in an earlier run's folder."""
        path = self.from_home(name)
        return path / "best.safetensors" if path.is_dir() else path

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def code(self) -> Path:
        """A fingerprint, for each stage, of the code that can change its result."""
        return self.root / "code"

    @property
    def has_code(self) -> bool:
        """True if the study has its own code; otherwise the installed package is run."""
        return (self.root / "src/xraylab").is_dir()

    @property
    def source(self) -> Path:
        return self.root / "data/source.json"

    @property
    def given_splits(self) -> Path:
        return self.root / "data/given_splits.csv"

    @property
    def raw(self) -> Path:
        return self.root / "data/raw"

    @property
    def index(self) -> Path:
        return self.root / "data/index.csv"

    @property
    def near_duplicates(self) -> Path:
        return self.root / "data/near_duplicates.csv"

    @property
    def audit(self) -> Path:
        return self.root / "data/audit.json"

    @property
    def split(self) -> Path:
        return self.root / "data/split"

    @property
    def folds(self) -> int | None:
        """The number of folds of the split; None without folds."""
        return len(list(self.split.glob("fold-*"))) or None

    def split_of(self, repeat: int) -> Path:
        """The folder of train_data.csv, valid_data.csv and test_data.csv of a repeat: of fold (repeat mod folds)."""
        return self.split / f"fold-{repeat % self.folds}" if self.folds else self.split

    @property
    def cache(self) -> Path:
        return self.root / "data/cache"

    @property
    def shards(self) -> Path:
        """Finished shards of `index` and `cache`; it may be a link to a folder that several machines share."""
        return self.state / "shards"

    @property
    def configs(self) -> Path:
        return self.root / "configs"

    def config(self, experiment: str) -> Path:
        return self.configs / f"{experiment}.yaml"

    @property
    def features(self) -> Path:
        return self.root / "features"

    def feature(self, experiment: str) -> Path:
        """The record that names the features an experiment trains on."""
        return self.features / f"{experiment}.json"

    def feature_array(self, key: str) -> Path:
        return self.features / f"{key}.npy"

    @property
    def feature_store(self) -> Path:
        return self.state / "features"

    def stored_features(self, key: str) -> Path:
        """The same array where it outlives the stage, whose outputs DVC deletes before it runs."""
        return self.feature_store / f"{key}.npy"

    @property
    def models(self) -> Path:
        return self.root / "models"

    def model(self, experiment: str, repeat: int) -> Path:
        return self.models / experiment / str(repeat)

    @property
    def run_metrics(self) -> Path:
        return self.root / "metrics"

    def run_metric(self, experiment: str, repeat: int) -> Path:
        """The metric that chose a run's best epoch, as experiments are compared by."""
        return self.run_metrics / experiment / f"{repeat}.json"

    @property
    def bundles(self) -> Path:
        """Runs as files for others: outside git and DVC."""
        return self.root / "bundles"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    def prediction(self, experiment: str, repeat: int) -> Path:
        return self.predictions / experiment / f"{repeat}.csv"

    @property
    def lock(self) -> Path:
        """DVC's record of the last run of each stage."""
        return self.root / "dvc.lock"

    @property
    def predicted_ahead(self) -> Path:
        """Predictions whose own stage is still to come."""
        return self.state / "predictions"

    @property
    def running(self) -> Path:
        """A file for each stage that runs now."""
        return self.state / "running"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def metrics(self) -> Path:
        """The few metrics that DVC lists and compares."""
        return self.reports / "metrics.json"

    @property
    def test_metrics(self) -> Path:
        """The test metrics of every experiment."""
        return self.evaluation / "test_metrics.json"

    @property
    def comparison(self) -> Path:
        return self.reports / "comparison.csv"

    @property
    def evaluation(self) -> Path:
        return self.reports / "evaluation"

    @property
    def explanation(self) -> Path:
        return self.reports / "explain"

    @property
    def external(self) -> Path:
        return self.reports / "external"

    @property
    def report(self) -> Path:
        return self.reports / "index.html"

    @property
    def gallery(self) -> Path:
        """Every test image, in a page of its own."""
        return self.reports / "gallery"

    @property
    def plots(self) -> Path:
        return self.root / "reports/plots"

    @property
    def cards(self) -> Path:
        """A model card per experiment."""
        return self.reports / "cards"

    @property
    def paper(self) -> Path:
        """Figures, tables and methods for a paper, written by `xraylab report --for-paper`; no stage's output."""
        return self.reports / "paper"

    @property
    def search(self) -> Path:
        """Results of the last search, for the report."""
        return self.reports / "search"

    @property
    def searches(self) -> Path:
        """Trials of every search, where a stopped one goes on, and the logs of the trials."""
        return self.state / "search"
