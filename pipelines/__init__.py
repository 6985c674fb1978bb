"""Verbs: one stage each, pure functions on top, one `run` that touches files.

Ray lives here; Dagster does not.
"""
