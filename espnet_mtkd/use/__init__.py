"""Use of a trained model: archives, audio, windows, back-ends. Nothing here imports torch early."""
