"""`python -m xraylab` is the same as the console script."""

from xraylab.cli import main

main()
