"""`python -m xraylab` is the same as the console script."""

from xraylab import processes


def main() -> None:
    """Run a command of the command line."""
    processes.begin()
    from xraylab.cli import main as run  # noqa: PLC0415 - takes a while, in which dvc may be killed

    run()


if __name__ == "__main__":
    main()
