"""Photos in: reads files, folders and tables, decodes images, and decides labels, splits and views."""
