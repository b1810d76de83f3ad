"""The training run: callbacks, resumption, history."""
