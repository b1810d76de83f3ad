"""dvc.yaml and the code agree: each stage depends on the modules that it imports, and on no others."""

from pathlib import PurePosixPath

import grimp
import pytest
import small

from xraylab import cli, files, params

STAGES = files.read_yaml(small.REPOSITORY / "dvc.yaml")["stages"]
CARRIED = "errors files params params_model params_training paths progress sections space tables"
CARRIERS = {f"xraylab.{name}" for name in CARRIED.split()}
"""Modules that carry values and compute none: a change in them alone is no reason to train again."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("xraylab")


def modules(stage: str, graph: grimp.ImportGraph) -> set[str]:
    """The files of the stage's import closure, without empty package files."""
    name = f"xraylab.stages.{stage}"
    closure = ({name} | graph.find_upstream_modules(name)) - CARRIERS
    packages = {module for module in graph.modules if graph.find_children(module)}
    return {f"src/{module.replace('.', '/')}.py" for module in closure - packages}


def covers(dep: str, file: str) -> bool:
    return file == dep or PurePosixPath(dep) in PurePosixPath(file).parents


def holds_code(dep: str) -> bool:
    """Not so of a folder of YAML files, which a stage reads and does not import."""
    return dep.endswith(".py") or any((small.REPOSITORY / dep).rglob("*.py"))


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "source"])
def test_a_stage_depends_on_its_real_imports(stage: str, graph: grimp.ImportGraph) -> None:
    deps = [dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")]
    needed = modules(stage, graph)
    assert {file for file in needed if not any(covers(dep, file) for dep in deps)} == set()
    assert {dep for dep in deps if holds_code(dep) and not any(covers(dep, file) for file in needed)} == set()


def test_a_stage_is_a_command_and_a_module_of_one_name(graph: grimp.ImportGraph) -> None:
    assert graph.find_children("xraylab.stages") == {f"xraylab.stages.{name}" for name in STAGES}
    commands = {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    assert set(STAGES) <= commands
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


def test_what_an_experiment_may_override_is_what_a_plan_holds() -> None:
    assert set(params.OVERRIDABLE) == set(params.Experiment.model_fields)
    assert set(STAGES["plan"]["params"]) >= {*params.OVERRIDABLE, "experiments"}
