"""The map of photos, where similar photos lie close together: its t-SNE layout, HTML page and PNG."""
