"""Bytes at rest: artifacts and manifests, disk and S3, tables, shards, video. No tensors."""
