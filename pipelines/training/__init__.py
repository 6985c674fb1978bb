"""Training: one loop for pretraining, cool-down and post-training, resumable to the byte."""
