"""Chooses on held-out images: the head, its regularisation, the layers, views and backbone; and learning curves."""
