"""Bytes at rest: artifacts and manifests, local disk and S3, tables, shards, video. No networks of neurons, no Dagster."""
