"""The level of confidence of all limits: 95%. Only counts have limits at another level too, 99.8%."""

LEVEL = 0.95
# The probability beyond each limit.
TAIL = (1 - LEVEL) / 2
# How many standard deviations of a normal distribution are within the limits on each side, at 95% and at 99.8%.
Z_95, Z_998 = 1.959963984540054, 3.090232306167813
