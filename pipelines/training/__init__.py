"""Training: the clips a step sees, the one loop, and what pretraining and post-training add to it."""
