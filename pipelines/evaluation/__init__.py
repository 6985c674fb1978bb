"""What a trained model can do, with trial counts, intervals and the baselines beside it."""
