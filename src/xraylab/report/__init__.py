"""From artefacts to one self-contained page, and the gallery of test images."""
