"""Commands of old tutorials: the flags, lines and files of retrain.py and label_image.py, with today's backbones."""
