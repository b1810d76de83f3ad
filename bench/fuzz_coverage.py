"""The engine `coverage` of bench/fuzz.py: atheris, by the lines of pydicom and xraylab that an input reaches.

`python bench/fuzz_coverage.py TARGET CORPUS [libFuzzer's options]`. atheris is no dependency of xraylab.
"""

import sys
import warnings
from random import Random


def main() -> None:
    """Let libFuzzer run; it ends this process."""
    import atheris  # noqa: PLC0415 - no dependency; and what it instruments it has to import

    with atheris.instrument_imports(include=["pydicom", "xraylab"]):
        import fuzz  # noqa: PLC0415
        import fuzz_mutations  # noqa: PLC0415

        target = fuzz.targets()[sys.argv.pop(1)]
    seeds = target.seeds()
    warnings.simplefilter("ignore")

    def change(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if not data or random.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return fuzz_mutations.mutate([data, data, *seeds], target.mutations, random)[:most]

    def run(data: bytes) -> None:
        what, trace = fuzz.outcome(target, data)
        if what in fuzz.BAD:
            raise RuntimeError(f"{what}\n{trace}")

    atheris.Setup(sys.argv, run, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
