"""Benchmarks of video and image classification: their own files in, their own metric out."""
