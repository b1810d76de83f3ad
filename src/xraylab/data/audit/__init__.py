"""What is wrong with files, pictures, labels and patients."""
