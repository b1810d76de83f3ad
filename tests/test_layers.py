"""dvc.yaml and the code agree: each stage depends on the modules that it imports, and on no others."""

from pathlib import Path

import grimp
import pytest
import small

from xraylab import cli, code, files
from xraylab.params.config import OVERRIDABLE, Experiment

STAGES = files.read_yaml(small.REPOSITORY / "dvc.yaml")["stages"]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("xraylab")


def needed(stage: str, graph: grimp.ImportGraph) -> set[str]:
    """The files of the stage's import closure, as grimp sees it, without those that carry values and compute none."""
    closure, waiting = set[str](), {f"xraylab.stages.{stage}"}
    while waiting:
        name = waiting.pop()
        closure.add(name)
        imported = graph.find_modules_directly_imported_by(name) - closure
        waiting |= {module for module in imported if not code.is_carrier(module, stage)}
    places = [small.REPOSITORY / "src" / name.replace(".", "/") for name in closure]
    return {path.relative_to(small.REPOSITORY / "src").as_posix() for path in map(module_file, places)}


def module_file(place: Path) -> Path:
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "code"])
def test_a_stage_depends_on_its_real_imports_alone(stage: str, graph: grimp.ImportGraph) -> None:
    assert [dep for dep in STAGES[stage]["deps"] if dep.startswith(("src", "code"))] == [f"code/{stage}.txt"]
    names = {line.split()[0] for line in code.fingerprint(stage, libraries=False).splitlines()}
    assert {name for name in names if name.endswith(".py")} == needed(stage, graph)


def test_a_stage_is_a_command_and_a_module_of_one_name(graph: grimp.ImportGraph) -> None:
    assert graph.find_children("xraylab.stages") == {f"xraylab.stages.{name}" for name in STAGES}
    assert list(cli.stages.STAGES) == list(STAGES)
    for name, stage in STAGES.items():
        arguments = " ${item.experiment} ${item.repeat}" if "matrix" in stage else ""
        assert stage["cmd"] == f"python src {name}{arguments}"


def test_a_stage_depends_on_parameters_that_exist() -> None:
    tree = files.read_yaml(small.REPOSITORY / "params.yaml")
    for stage in STAGES.values():
        for dotted in stage.get("params", []):
            section = tree
            for key in dotted.split("."):
                section = section[key]


def test_everything_but_the_sources_fingerprint_is_cached() -> None:
    """A remote can restore a finished stage only if DVC's cache holds all of its outputs."""
    uncached = {
        name
        for name, stage in STAGES.items()
        for out in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        if isinstance(out, dict) and any(options.get("cache") is False for options in out.values())
    }
    assert uncached == {"source"}


def test_what_an_experiment_may_override_is_what_a_config_holds() -> None:
    assert set(OVERRIDABLE) == set(Experiment.model_fields)
    assert set(STAGES["configure"]["params"]) >= {*OVERRIDABLE, "experiments"}
