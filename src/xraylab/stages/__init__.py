"""One module per stage of dvc.yaml: each reads its files, calls the rooms below, and writes."""
