"""Data directories, audio, labels and folds."""
