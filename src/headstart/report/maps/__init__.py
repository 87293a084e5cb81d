"""The map of photos, where similar photos lie close together: its layout, page and image."""
