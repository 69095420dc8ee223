"""The model: built, fitted, evaluated, and asked for its outputs on a pool. It never chooses what to label."""
