"""Named pretrained weights and the public data sets that they have seen: tables in YAML, and what reads them."""
