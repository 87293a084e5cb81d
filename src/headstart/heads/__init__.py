"""Learns a head on codes: logistic regression, a hidden layer, class means, nearest neighbours."""
