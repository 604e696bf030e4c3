"""Prior approval and individual funding requests: registers, boards' regimes, and operations matched with both."""
