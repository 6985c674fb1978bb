"""Studies: what each choice of a recipe is worth, at equal CPU seconds and over several seeds."""
