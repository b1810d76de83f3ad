"""From artefacts to one self-contained page."""
