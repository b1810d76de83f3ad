"""Examine the machine and the study for what would stop or spoil a run, and mend what is provably left over."""
