"""What the numbers of a run mean, in sentences for people who have never trained a classifier."""
