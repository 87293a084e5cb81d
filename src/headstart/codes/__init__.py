"""Turns images into codes and image statistics, once for each image, and stores them."""
