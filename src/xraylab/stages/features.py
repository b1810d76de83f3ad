"""features: precompute the features of frozen backbones, once for all experiments that share them."""

from xraylab import files
from xraylab.errors import ParamsError
from xraylab.model import names
from xraylab.params import config
from xraylab.params.config import Params, Plan
from xraylab.paths import Paths


def run(cfg: Params, paths: Paths) -> None:
    """Write features/<experiment>.json for every experiment, and each array that one of them names.

    It runs before any training, and so is where networks that cannot be built or frozen as planned are refused.
    """
    plans = {name: config.read_plan(paths.plan(name)) for name in cfg.experiments}
    _refuse_impossible(plans, len(cfg.data.classes))
    cached = {name: plan for name, plan in plans.items() if plan.model.freeze.cache}
    keys = _compute(cached, cfg.data.classes, paths)
    sha256 = {key: files.sha256(paths.stored_features(key)) for key in set(keys.values())}
    with files.replacing_folder(paths.features) as folder:
        for name in plans:
            facts = {"key": keys[name], "sha256": sha256[keys[name]]} if name in keys else {"key": None}
            files.write_json(facts, folder / f"{name}.json")
        for key in sha256:
            files.link(paths.stored_features(key), folder / f"{key}.npy")
    if paths.home == paths.root:  # not in a temporary checkout, whose parameters say nothing about the others'
        for path in paths.feature_store.glob("*.npy") if paths.feature_store.is_dir() else ():
            if path.stem.split("-")[0] not in sha256:
                path.unlink()


def _refuse_impossible(plans: dict[str, Plan], n_classes: int) -> None:
    problems: dict[str, list[str]] = {}
    for name, model in ((name, plan.model) for name, plan in plans.items()):
        if names.surely_fits(model.arch, model.freeze.until, model.freeze.n_blocks):
            continue
        from xraylab.model import create  # noqa: PLC0415 - torch takes time, and most studies need not wait for it

        if problem := create.check(model, n_classes):
            problems.setdefault(problem, []).append(name)
    if problems:
        listed = [f"{', '.join(experiments)}: {problem}" for problem, experiments in problems.items()]
        raise ParamsError("networks that cannot be made as planned:", listed)


def _compute(plans: dict[str, Plan], classes: list[str], paths: Paths) -> dict[str, str]:
    """The key of each experiment's features, which are computed unless they are there."""
    if not plans:
        return {}
    from xraylab.model import create  # noqa: PLC0415 - as above

    hashes = [files.sha256(path) for path in sorted(paths.cache.iterdir())]
    return {name: create.cache_features(plan, classes, paths, hashes, print) for name, plan in plans.items()}
