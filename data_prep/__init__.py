"""Everything before the run: images, variants, first labels, embeddings, zero-shot labels. It never trains."""
