"""Plugins: small distributions on the path, one of each kind, from the names in params.yaml to a trained study."""

import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from conftest import BEFORE_CONFIGURE, load, run
from ruamel.yaml import YAML

from xraylab import code, files, plugins, tables
from xraylab.data import layouts
from xraylab.data.sampling import SAMPLINGS, EpochSampler
from xraylab.errors import DataError, ParamsError, PluginError
from xraylab.model import backbones, losses, names
from xraylab.params import search
from xraylab.params.loss import LOSSES_OF_TASK
from xraylab.params.names import BUILT_IN
from xraylab.search import experiment
from xraylab.stages import configure, features, predict, train

Install = Callable[..., Path]
EXAMPLE = (small.REPOSITORY / "docs/plugins.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", EXAMPLE, re.DOTALL))
ENTRY_POINTS = tomllib.loads(BLOCKS["toml"])["project"]["entry-points"][plugins.GROUP]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution of one module: its source, and its entry points."""
    site = tmp_path / "site-packages"
    modules = set(sys.modules)

    def install(
        source: str, entry_points: dict[str, str], name: str = "xray-extras", module: str = "xray_extras"
    ) -> Path:
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{key} = {value}" for key, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{plugins.GROUP}]", *lines]))
        (site / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(site)
        plugins.installed.cache_clear()
        return site

    yield install
    plugins.installed.cache_clear()
    for module in set(sys.modules) - modules:
        if module.startswith("xray_extras"):
            del sys.modules[module]


@pytest.fixture
def example(install: Install) -> Path:
    return install(BLOCKS["python"], ENTRY_POINTS)


def read_with(tmp_path: Path, change: small.Change) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        load(small.study(tmp_path / "study", change))
    return list(caught.value.problems)


def by_prefix(folder: Path) -> Path:
    """Forty films named as the example's layout wants them, of twenty patients."""
    small.write_images(folder, [f"{'AB'[n % 2]}_p{n // 2:02}_{n % 2}.png" for n in range(40)])
    return folder


def test_the_example_of_the_docs_trains_and_predicts(example: Path, tmp_path: Path) -> None:
    settings = YAML(typ="safe").load(BLOCKS["yaml"])
    source = small.use(by_prefix(tmp_path / "films"), ["A", "B"], "B")

    def change(tree: small.Tree) -> None:
        source(tree)
        for section, values in settings.items():
            tree[section].update(values)
        tree["experiments"] = {"baseline": {}}
        tree["split"].update(strategy="random", test_pct=0.25, valid_pct=0.25)

    given, paths = loaded = run(load(small.study(tmp_path / "study", change)), *BEFORE_CONFIGURE, configure, features)
    index = tables.read(paths.index)
    assert set(index["patient"]) == {f"p{number:02}" for number in range(20)}
    train.run(*loaded, "baseline", 0)
    model = files.read_json(paths.model("baseline", 0) / "model.json")
    conv = [(1 if given.model.channels == 1 else 3) * 8 * 9 + 8 + 16, 8 * 16 * 9 + 16 + 32]  # with batch norms
    assert model["arch"] == "tiny_net"
    assert model["parameters"] == sum(conv) + 16 * 2 + 2
    assert model["plugins"] == {"xray-extras": f"1.0 {plugins.source_hash('xray-extras')}"}
    predict.run(*loaded, "baseline", 0)
    predicted = pd.read_csv(paths.prediction("baseline", 0))
    assert np.allclose(predicted[["p_A", "p_B"]].sum(axis=1), 1, atol=1e-5)


def test_what_a_plugin_offers_is_what_is_used(example: Path) -> None:
    labels = np.arange(10)
    sampler = EpochSampler("first_half", labels, seed=3)
    expected = np.random.default_rng([3, 0, 1]).permutation(10)[:5]
    assert sampler.of(range(len(sampler))).tolist() == expected.tolist()
    made = losses.create_loss("lenient", None, {"gamma": 0.5})
    assert (type(made).__name__, made.gamma) == ("LenientLoss", 0.5)
    (callback,) = plugins.create_callbacks({"gradient_noise": {"std": 0.5}})
    assert callback.std == 0.5
    assert next(iter(layouts.layouts())) == "by_prefix"
    assert next(backbones.lookup("tiny_net")(1).parameters()).shape == (8, 1, 3, 3)  # type: ignore[misc]


def test_arguments_that_a_plugin_does_not_take_are_an_error_that_names_it(example: Path) -> None:
    with pytest.raises(PluginError, match=r"^the callback gradient_noise of a plugin: .*unexpected keyword"):
        plugins.create_callbacks({"gradient_noise": {"sigma": 0.5}})
    with pytest.raises(PluginError, match=r"^the loss lenient of a plugin: .*unexpected keyword"):
        losses.create_loss("lenient", None, {"alpha": 1})


def test_names_of_params_yaml_are_checked_without_importing_the_plugin(install: Install, tmp_path: Path) -> None:
    install("raise RuntimeError('imported')", ENTRY_POINTS)
    study = small.study(tmp_path / "good", lambda tree: tree["loss"].update(name="lenient", options={"gamma": 1.0}))
    assert load(study)[0].loss.options == {"gamma": 1.0}

    def change(tree: small.Tree) -> None:
        tree["data"]["layout"] = "by_suffix"
        tree["sampling"]["strategy"] = "second_half"
        tree["loss"].update(name="symmetric")
        tree["train"]["callbacks"] = {"noise": {}}

    assert read_with(tmp_path, change) == [
        "sampling.strategy: should be 'none', 'weighted', 'stratified', 'downsample', 'source_balanced' or "
        "'first_half', got 'second_half'",
        "loss.name: should be 'cross_entropy', 'bce', 'focal', 'asymmetric' or 'lenient', got 'symmetric'",
        "train.callbacks.noise: should be 'gradient_noise', got 'noise'",
        "data.layout: should be 'auto', 'class-folders', 'tbx11k', 'covid-radiography', 'covidx', 'kermany', "
        "'acse4', 'nih', 'chexpert', 'mimic-cxr', 'vindr', 'padchest', 'shenzhen', 'table' or "
        "'by_prefix', got 'by_suffix'",
    ]


def test_options_of_a_plugins_loss_can_be_searched(example: Path, tmp_path: Path) -> None:
    def change(tree: small.Tree) -> None:
        tree["loss"].update(name="lenient", options={"gamma": 1.0, "margin": 0.1})
        tree["search"]["space"] = {"loss.options.gamma": {"low": 0.5, "high": 2.0}}

    params, _ = load(small.study(tmp_path / "good", change))
    (baseline, *_) = params.experiments
    options = [params.experiment(baseline, values).loss.options for values in search.corners(params.search.space)]
    assert options == [{"gamma": 0.5, "margin": 0.1}, {"gamma": 2.0, "margin": 0.1}]
    assert "++experiments.baseline.loss.options.gamma=0.5" in experiment.changes(
        "baseline", {"loss.options.gamma": 0.5}
    )


def test_options_are_those_of_a_plugins_loss_and_smoothing_is_cross_entropys(example: Path, tmp_path: Path) -> None:
    options = {"options": {"gamma": 1.0}, "label_smoothing": 0.1}

    def change(tree: small.Tree) -> None:
        tree["loss"].update(options)
        tree["experiments"] = {"baseline": {}, "own": {"loss": {"name": "lenient"}}}

    given = load(small.study(tmp_path / "study", change))[0]
    resolved = {name: given.experiment(name).loss for name in given.experiments}
    assert (resolved["baseline"].options, resolved["baseline"].label_smoothing) == ({}, 0.1)
    assert (resolved["own"].options, resolved["own"].label_smoothing) == ({"gamma": 1.0}, 0.0)


def test_without_plugins_no_callback_can_be_named(tmp_path: Path) -> None:
    problems = read_with(tmp_path, lambda tree: tree["train"].update(callbacks={"noise": {}}))
    assert problems == ["train.callbacks.noise: should be a callback of a plugin, and none is installed, "
                        "got 'noise'"]  # fmt: skip


@pytest.mark.parametrize(
    ("entry_points", "message"),
    [
        ({"loss.focal": "xray_extras:x"},
         "plugin xray-extras: the name of its loss focal is taken: xraylab has one of that name: "
         "give the plugin's entry point another"),
        ({"sampling.half": "xray_extras:x"},
         "plugin xray-extras: the entry point 'sampling.half' is called otherwise than <kind>.<name>, "
         "where kind is architecture, callback, layout, loss, sampler"),
    ],
)  # fmt: skip
def test_a_plugin_of_a_bad_name_is_named(
    entry_points: dict[str, str], message: str, install: Install, tmp_path: Path
) -> None:
    install("x = 1", entry_points)
    with pytest.raises(PluginError) as caught:
        load(small.study(tmp_path / "study"))
    assert str(caught.value) == message


def test_two_distributions_cannot_share_a_name(install: Install) -> None:
    install("x = 1", {"loss.own": "xray_extras:x"}, "a-extras")
    install("x = 1", {"loss.own": "xray_extras:x"}, "b-extras")
    with pytest.raises(PluginError) as caught:
        plugins.installed()
    assert str(caught.value) == (
        "plugin b-extras: the name of its loss own is taken: a-extras offers one of that name too: "
        "uninstall one of the two"
    )


def test_an_architecture_cannot_take_the_name_of_one_of_timms(install: Install) -> None:
    install("x = 1", {"architecture.resnet26": "xray_extras:x"})
    with pytest.raises(PluginError, match=r"^plugin xray-extras: the name of its architecture resnet26 is taken"):
        backbones.lookup("resnet26")


def test_a_plugin_that_cannot_be_imported_is_named_with_its_reason(install: Install) -> None:
    install("import no_such_package", {"loss.own": "xray_extras:Own"})
    with pytest.raises(PluginError) as caught:
        losses.create_loss("own", None, {})
    assert str(caught.value) == (
        "plugin xray-extras 1.0: its loss own (xray_extras:Own) cannot be loaded: "
        "ModuleNotFoundError: No module named 'no_such_package'"
    )


def test_a_plugin_changes_the_fingerprints_of_the_stages_that_load_its_kind(install: Install) -> None:
    install("x = 1", {"loss.own": "xray_extras:x"})
    line = f"plugin xray-extras 1.0 {plugins.source_hash('xray-extras')}"
    stages = ("index", "split", "train", "evaluate", "report")
    assert [line in code.fingerprint(stage, libraries=False).splitlines() for stage in stages] == [
        False, False, True, False, False,
    ]  # fmt: skip
    install("x = 2", {"loss.own": "xray_extras:x"})
    assert line not in code.fingerprint("train", libraries=False)
    install("x = 2", {"layout.own": "xray_extras:x"})
    with_layout = [f"{code.PLUGIN} " in code.fingerprint(stage, libraries=False) for stage in stages]
    assert with_layout == [True, False, False, False, False]


def test_a_stage_stops_where_the_plugin_is_not_the_one_on_record(install: Install, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    remedy = "run `dvc repro --force code`, then `dvc repro`, which runs again what the difference can change"

    def refused() -> str:
        with pytest.raises(DataError) as caught:
            code.check("train", folder, in_repository=True)
        return str(caught.value)

    code.write(folder, libraries=False)
    install("x = 1", {"loss.own": "xray_extras:x"})
    other = "code/train.txt is the fingerprint of another version (plugin xray-extras differs)"
    assert refused() == f"{other}: {remedy}"
    code.write(folder, libraries=False)
    code.check("train", folder, in_repository=True)
    install("x = 2", {"loss.own": "xray_extras:x"})
    assert refused() == f"{other}: {remedy}"
    code.check("report", folder, in_repository=True)


def test_names_that_params_yaml_takes_are_those_that_there_are() -> None:
    assert set(BUILT_IN["layout"]) == {"auto", *layouts.LAYOUTS}
    assert set(BUILT_IN["sampler"]) == {"none", *SAMPLINGS}
    assert set(BUILT_IN["loss"]) == {*losses.LOSSES, *losses.MULTI_LABEL_LOSSES}
    for task, table in [("single-label", losses.LOSSES), ("multi-label", losses.MULTI_LABEL_LOSSES)]:
        assert set(LOSSES_OF_TASK[task]) == set(table)


def test_the_command_line_names_a_broken_plugin_without_a_traceback(example: Path, tmp_path: Path) -> None:
    (example / "xray_extras.py").write_text("import no_such_package")
    study = small.study(tmp_path / "study", lambda tree: tree["data"].update(layout="by_prefix"))
    (study / "data/raw").mkdir(parents=True)
    command = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(example)!r}); sys.argv = ["xraylab", "index"]
        from xraylab.cli import main
        main()
    """)
    done = subprocess.run([sys.executable, "-c", command], cwd=study, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: plugin xray-extras 1.0: its layout by_prefix (xray_extras:BY_PREFIX) cannot be loaded: "
        "ModuleNotFoundError: No module named 'no_such_package'"
    )


def test_the_report_names_the_package_that_builds_a_plugins_network(example: Path) -> None:
    assert names.built_by("tiny_net") == "xray-extras"
