"""Files held to what dvc.lock has recorded of them: damaged and edited ones are found by their contents, not times."""
