"""What only speed asks for: the same results as plain torch, sooner. Never a decision of what to train or to pick."""
