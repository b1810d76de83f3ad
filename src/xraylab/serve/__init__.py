"""A web server for trained classifiers: a page, an HTTP API, and processes apart that decode what is uploaded."""
