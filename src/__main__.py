"""`python src <command>` runs xraylab from this very checkout.

The stages in dvc.yaml start this way because an installed (or editable) package would run the code of
whichever checkout it was installed from, also inside the separate checkout of a queued experiment.
"""

import sys

from xraylab import processes

processes.begin()  # before the imports, which take a while, in which dvc may be killed

try:
    from xraylab.cli import main
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} lacks the package {error.name!r}, which xraylab needs.\n"
        "Activate the study's environment first: source .venv/bin/activate (`make .venv` creates it)."
    )

main()
