"""The web page and the HTTP API of a trained classifier."""
