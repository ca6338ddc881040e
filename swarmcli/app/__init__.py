"""The composition root: from flags and a recipe to adapters, a run, and a written result."""
