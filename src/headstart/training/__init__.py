"""The recipes: train, evaluate a run, and the scikit-learn estimator, each made of the same steps."""
