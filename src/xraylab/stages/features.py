"""features: precompute the features of frozen backbones, once for all experiments that share them."""

from xraylab import files
from xraylab.errors import ParamsError
from xraylab.model import names
from xraylab.params import config
from xraylab.params.config import ExperimentConfig, Params
from xraylab.paths import Paths


def run(cfg: Params, paths: Paths) -> None:
    """Write features/<experiment>.json for every experiment, and each array that one of them names.

    It runs before any training, and so is where networks that cannot be built or frozen as configured are refused.
    """
    configs = {name: config.read_config(paths.config(name)) for name in cfg.experiments}
    _refuse_impossible(configs, len(cfg.data.classes))
    cached = {name: each for name, each in configs.items() if each.model.freeze.cache}
    keys = _compute(cached, cfg.data.classes, paths)
    sha256 = {key: files.sha256(paths.stored_features(key)) for key in set(keys.values())}
    with files.replacing_folder(paths.features) as folder:
        for name in configs:
            facts = {"key": keys[name], "sha256": sha256[keys[name]]} if name in keys else {"key": None}
            files.write_json(facts, folder / f"{name}.json")
        for key in sha256:
            files.link(paths.stored_features(key), folder / f"{key}.npy")
    if paths.home == paths.root:  # not in a temporary checkout, whose parameters say nothing about the others'
        for path in [each for end in (".npy", files.CHECKSUM) for each in paths.feature_store.glob(f"*{end}")]:
            if path.stem.split("-")[0] not in sha256:
                path.unlink()


def _refuse_impossible(configs: dict[str, ExperimentConfig], n_classes: int) -> None:
    problems: dict[str, list[str]] = {}
    for name, cfg in configs.items():
        model, checkpointed = cfg.model, cfg.train.grad_checkpointing
        if not checkpointed and names.surely_fits(model.arch, model.freeze.until, model.freeze.n_blocks):
            continue
        from xraylab.model import create  # noqa: PLC0415 - torch takes time, and most studies need not wait for it

        if problem := create.check(model, n_classes, checkpointed):
            problems.setdefault(problem, []).append(name)
    if problems:
        lines = [f"{', '.join(experiments)}: {problem}" for problem, experiments in problems.items()]
        raise ParamsError("networks that cannot be built as configured:", lines)


def _compute(configs: dict[str, ExperimentConfig], classes: list[str], paths: Paths) -> dict[str, str]:
    """The key of each experiment's features, which are computed unless they are there."""
    if not configs:
        return {}
    from xraylab import shards  # noqa: PLC0415 - as above
    from xraylab.model import create  # noqa: PLC0415

    hashes = shards.hashes(paths.cache)
    return {name: create.cache_features(cfg, classes, paths, hashes, print) for name, cfg in configs.items()}
