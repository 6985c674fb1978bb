"""Tensors: V-JEPA 2 in pure torch. No files beyond checkpoints, no clock, no Ray, no Dagster."""
