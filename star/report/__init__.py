"""A run as a page: figures and HTML."""
