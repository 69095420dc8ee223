"""Embeddings of very many images, made shard by shard by any number of processes; it knows of no labels and no run."""
