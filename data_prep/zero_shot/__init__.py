"""Labels that a machine gives before any person does: computed, imported, checked, described. Never the truth."""
