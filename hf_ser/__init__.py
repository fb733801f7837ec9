"""Speech emotion recognition from the sound and the words, on the Hugging Face stack."""
