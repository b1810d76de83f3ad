"""Published studies as parameters, and new studies outside this repository."""
