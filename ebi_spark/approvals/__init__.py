"""Prior approval and individual funding requests: the register, the boards' regimes, and the operations matched with both."""
