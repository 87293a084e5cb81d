"""Shows a run to people: the report page, maps, plots, TensorBoard, and the sentences in them."""
