"""Shares a finished run: the classifier on the Hugging Face hub, with a model card; the run on an MLflow server."""
