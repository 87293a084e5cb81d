"""The steps of a training, in the order in which `train` takes them: each is a function, values in and values out."""
