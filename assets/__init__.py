"""Nouns: thin Dagster assets, checks, jobs, definitions and the command line."""
