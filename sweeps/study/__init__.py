"""What only the study of CIFAR-10 asks for: its sweep files, published numbers, claims, figures and tables."""
