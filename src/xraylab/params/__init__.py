"""params.yaml as one typed, frozen and strict tree, one file a section.

No value has a default here: DVC sees only the file.
"""
