"""A versioned, honest pipeline for experiments with X-ray classifiers."""
