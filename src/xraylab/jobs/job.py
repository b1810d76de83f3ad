"""A job: the stages of one run, which one dvc makes in order; the same here, on SLURM and on Ray."""

from dataclasses import dataclass


@dataclass
class Job:
    """`stages` in the order in which they run.

    `changes` of params.yaml, as `dvc exp run --set-param` takes them: such a job is a trial of a search. `gpu_bytes`:
    what it takes at least of a GPU's memory, 0 where nobody knows.
    """

    stages: tuple[str, ...]
    changes: tuple[str, ...] = ()
    gpu_bytes: int = 0

    @property
    def run(self) -> str:
        """The run whose network it trains, after its matrix stages: baseline-0 of train@baseline-0."""
        return next(stage.partition("@")[2] for stage in self.stages if "@" in stage)

    @property
    def experiment(self) -> str:
        return self.run.rpartition("-")[0]

    def repro(self, *flags: str) -> list[str]:
        """Arguments for dvc: make these stages, and none that they depend on; with --pull restore what others made."""
        return ["repro", *flags, "--single-item", *self.stages]
