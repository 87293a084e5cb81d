"""Finds issues in photos: duplicates, wrong labels, outliers, bad images, confused classes; and applies fixes."""
