"""The techniques: one file per subject, forward and backward together. No variant imports another."""
